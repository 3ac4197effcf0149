/** The session cookie. */
import type { IncomingMessage } from "node:http";
import { type Customer, customerOf, openSession, sessionMs } from "../features/accounts.js";

const name = "post_shop";

/** Whatever is not a token of ours counts as no cookie: there is nothing that a visitor could do about it. */
export function tokenIn(request: IncomingMessage): string | undefined {
  return new RegExp(`(?:^|;\\s*)${name}=([A-Za-z0-9_-]{43})(?:;|$)`).exec(request.headers.cookie ?? "")?.[1];
}

export async function customerIn(request: IncomingMessage): Promise<Customer | undefined> {
  const token = tokenIn(request);
  return token === undefined ? undefined : customerOf(token);
}

/** Who has no session yet gets one as a guest, when something is to be remembered of them. */
export async function customerOrGuest(
  request: IncomingMessage,
): Promise<{ readonly customer: Customer; readonly headers: Readonly<Record<string, string>> }> {
  const known = await customerIn(request);
  if (known !== undefined) return { customer: known, headers: {} };
  const token = await openSession(undefined, null);
  const customer = await customerOf(token);
  if (customer === undefined) throw new Error("The new session is gone.");
  return { customer, headers: cookie(token) };
}

/**
 * HttpOnly: no script reads it. SameSite: no other site's form sends it. A shop with a name of its own adds `Secure` and the prefix
 * `__Host-`; this one is at http://localhost.
 */
export function cookie(token: string): Readonly<Record<string, string>> {
  return { "set-cookie": `${name}=${token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${Math.floor(sessionMs / 1000)}` };
}
