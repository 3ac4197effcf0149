/** Takes what is secret out of what a receiver answered: it may have sent it back. */

/** Shorter parts are words of their own too often. */
const leastLength = 6;

/** All parts of the URL behind its host, the user and password in each form, and the values of headers. */
export function cleaner(url: URL, headers: Readonly<Record<string, string>>): (text: string) => string {
  const { username, password, pathname, search, href } = url;
  const asWritten = [href, `${pathname}${search}`, search, pathname, username, password, ...pathname.split("/")];
  const user = [decoded(username), decoded(password)];
  const basic = Buffer.from(user.join(":")).toString("base64");
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(" ")]);
  const secret = [...asWritten, ...asWritten.map(decoded), basic, ...url.searchParams.values(), ...values]
    .filter((part) => part.length >= leastLength)
    // The longest first, so that none leaves the rest of a longer one behind.
    .sort((a, b) => b.length - a.length);
  return (text) => secret.reduce((clean, part) => clean.replaceAll(part, "…"), text);
}

/** Text that is percent-encoded, as it was meant; as it is where it is broken. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
