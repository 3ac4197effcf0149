/** Why a text is no URL: what leads to the mend, and nothing of the text, which may hold a password. */

const highestPort = 65_535;

const withScheme = /^[a-z][a-z\d+.-]*:\/\//i;

/** `localhost:1883` reads as a URL with the scheme `localhost:`. */
export function beginsWithScheme(given: string): boolean {
  return withScheme.test(given.trim());
}

/** The reason as the end of a sentence: "has a port out of range: …". For what `URL` does not read. */
export function whyUnreadable(given: string): string {
  const text = given.trim();
  if (text === "") return "is empty";
  if (!beginsWithScheme(text)) return "does not begin with a scheme and ://";
  const [, authority = "", beyond = ""] = /^([^/?#]*)(.*)$/s.exec(text.replace(withScheme, "")) ?? [];
  // A host ends at the first of these, so an @ behind it shows that they stand in a password.
  if (beyond.includes("@")) return "has a user or password with one of / ? # in it, which has to be percent-encoded";
  return aboutHost(authority.slice(authority.lastIndexOf("@") + 1));
}

function aboutHost(text: string): string {
  if (text.includes(",")) return severalHosts;
  const [, host = "", port] = /^(\[.*\]|[^:]*)(?::(.*))?$/s.exec(text) ?? [];
  if (port?.includes(":") === true || /^\[[^\]]*$/.test(text)) return brackets;
  if (host === "") return "names no host";
  if (port !== undefined && !/^\d*$/.test(port)) return `has a port that is no number, or ${unencoded}`;
  if (port !== undefined && port !== "" && !isPort(Number(port))) return outOfRange;
  return /\s/.test(host) ? "has a space in its host" : `has a host that cannot be read, or ${unencoded}`;
}

const unencoded = "a user or password with one of : / ? # @ in it, which has to be percent-encoded";
const brackets = `has a host that cannot be read, where an IPv6 address stands in [ and ]; or ${unencoded}`;
export const severalHosts = "names several hosts, and one URL names one";
export const outOfRange = `has a port out of range: ports go from 1 to ${highestPort}`;

export function isPort(port: number): boolean {
  return port >= 1 && port <= highestPort;
}
