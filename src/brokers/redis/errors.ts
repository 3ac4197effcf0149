/** What Redis says when it does not do something. The first word of an error is its code, by the protocol; nothing is decided on the rest. */
import { withoutSecrets } from "../../core/secrets.js";
import type { Settings } from "./options.js";

/** The code of an error that came from Redis itself; undefined for a lost connection and everything else. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && error.name === "ReplyError" ? /^[A-Z]+/.exec(error.message)?.[0] : undefined;
}

/** The client's errors hold the command with its arguments: payloads, and the password of the greeting. What is passed on holds the text alone. */
export function said(what: string, { where, secrets }: Settings, error: unknown): Error {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const clean = withoutSecrets(new Error(`${what} (${where}): ${text}`), secrets);
  const known = clean instanceof Error ? clean : new Error(`${what} (${where})`);
  return typeof code === "string" ? Object.assign(known, { code }) : known;
}
