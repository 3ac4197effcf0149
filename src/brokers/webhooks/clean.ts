/** Takes what is secret out of what a receiver answered: it may have sent it back. */
import type { Key } from "./keys.js";

/** Shorter parts are words of their own too often. */
const leastLength = 6;

/** All parts of the URL behind its host, the user and password in each form, the values of headers, and the secrets that the receiver shares. */
export function cleaner(
  url: URL,
  headers: Readonly<Record<string, string>>,
  keys: readonly Key[],
): (text: string) => string {
  const { username, password, pathname, search, href } = url;
  const asWritten = [href, `${pathname}${search}`, search, pathname, username, password, ...pathname.split("/")];
  const user = [decoded(username), decoded(password)];
  const basic = Buffer.from(user.join(":")).toString("base64");
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(" ")]);
  const secret = [
    ...asWritten,
    ...asWritten.map(decoded),
    basic,
    ...url.searchParams.values(),
    ...values,
    ...keys.flatMap(written),
  ]
    .filter((part) => part.length >= leastLength)
    // The longest first, so that none leaves the rest of a longer one behind.
    .sort((a, b) => b.length - a.length);
  return (text) => secret.reduce((clean, part) => clean.replaceAll(part, "…"), text);
}

/** A shared secret in each form that a receiver may have it in, without the padding, which is not always there. */
function written(key: Key): readonly string[] {
  if (key.kind !== "v1") return [];
  const { secret } = key;
  return [secret.toString("base64").replace(/=+$/, ""), secret.toString("base64url"), secret.toString("hex")];
}

/** Text that is percent-encoded, as it was meant; as it is where it is broken. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
