/** Who somebody is: registering, logging in, sessions. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { type AnswerContext, days, type Sql } from "posthorn";
import { CheckPassword, SendEmail, UserRegistered } from "../contracts.js";
import { type Elsewhere, post, read } from "../post.js";
import { checkPassword, hashPassword } from "./passwords.js";

/** A customer at the counter: a guest until they log in, and what they ordered as a guest stays theirs. */
export interface Customer {
  readonly guestId: string;
  readonly userId: string | null;
  readonly email: string | null;
}

export const sessionMs = days(30);

export class EmailTaken extends Error {}

/** The row and the fact in one commit: there is never an account without its welcome, or a welcome without an account. */
export async function register(email: string, password: string): Promise<string> {
  const userId = randomUUID();
  const hash = await hashPassword(password);
  await post.transaction(async ({ tx, publish }) => {
    const { rows } = await tx.query(
      "insert into shop.customer (id, email, password_hash) values ($1, $2, $3) on conflict (email) do nothing returning id",
      [userId, email, hash],
    );
    if (rows.length === 0) throw new EmailTaken("There is an account with this e-mail address.");
    publish(UserRegistered, { userId, email });
  });
  return userId;
}

/** Handler mode: it only says what follows, and that is written with its settlement; a repeated run says it once. */
export function welcomeUser({ userId, email }: { userId: string; email: string }, { send }: Elsewhere): void {
  const text = "Your account at the Post Shop is open.\n\nWe shall write to this address when you order.\n";
  send(SendEmail, { to: email, subject: "Welcome to the Post Shop", text, about: userId });
}

export async function answerPassword(
  { email, password }: { email: string; password: string },
  { tx }: AnswerContext<Sql>,
): Promise<{ userId: string | null }> {
  const { rows } = await tx.query<{ id: string; hash: string }>(
    "select id, password_hash as hash from shop.customer where email = $1",
    [email],
  );
  const [user] = rows;
  const right = await checkPassword(password, user?.hash);
  return { userId: right ? (user?.id ?? null) : null };
}

/** Null for a wrong password and for an unknown address alike. */
export async function logIn(email: string, password: string): Promise<string | null> {
  return (await post.ask(CheckPassword, { email, password })).userId;
}

/** Opens a session under a new token: one that somebody planted before the log-in is worth nothing after it. */
export async function openSession(guestId: string | undefined, userId: string | null): Promise<string> {
  const token = randomBytes(32).toString("base64url");
  await post.transaction(({ tx }) =>
    tx.query(
      `insert into shop.session (token_hash, guest_id, user_id, expires_at)
       values ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond')`,
      [hashOf(token), guestId ?? randomUUID(), userId, sessionMs],
    ),
  );
  return token;
}

export async function closeSession(token: string): Promise<void> {
  await post.transaction(({ tx }) => tx.query("delete from shop.session where token_hash = $1", [hashOf(token)]));
}

export async function customerOf(token: string): Promise<Customer | undefined> {
  const [customer] = await read<Customer>(
    `select s.guest_id as "guestId", s.user_id as "userId", c.email from shop.session s left join shop.customer c on c.id = s.user_id
     where s.token_hash = $1 and s.expires_at > clock_timestamp()`,
    [hashOf(token)],
  );
  return customer;
}

/** Who reads the table cannot use what stands in it. The token is random, so a plain hash is enough. */
function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
