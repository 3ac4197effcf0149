/** Takes what is secret out of what a receiver answered: it may have sent it back. */
import { Secrets } from "../../core/secrets.js";
import type { Key } from "./keys.js";

/** Shorter parts are words of their own too often. */
const leastLength = 6;

/** All parts of the URL behind its host, the user and password, the values of headers, and the secrets that the receiver shares. */
export function cleaner(
  url: URL,
  headers: Readonly<Record<string, string>>,
  keys: readonly Key[],
): (text: string) => string {
  const { pathname, search, href } = url;
  const user = decoded(url.username);
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(" ")]);
  const parts = [
    href,
    `${pathname}${search}`,
    search,
    pathname,
    ...pathname.split("/"),
    user,
    ...url.searchParams.values(),
  ]
    .concat(values)
    .flatMap((part) => [part, decoded(part)])
    .concat(keys.flatMap(written))
    .filter((part) => part.length >= leastLength);
  const secrets = new Secrets([decoded(url.password)], user);
  for (const part of parts) secrets.add(part);
  return (text) => secrets.hide(text);
}

/** A shared secret in each form that a receiver may have it in, without the padding, which is not always there. */
function written(key: Key): readonly string[] {
  return key.kind === "v1" ? [key.secret.toString("base64").replace(/=+$/, ""), key.secret.toString("hex")] : [];
}

/** Text that is percent-encoded, as it was meant; as it is where it is broken. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
