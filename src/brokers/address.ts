/** The address of a broker: read once, its credentials kept apart, and never repeated in an error or a log. */
import { ConfigurationError } from "../core/errors.js";
import { type Given, Secrets } from "../core/secrets.js";
import { quote } from "../core/show.js";
import type { TlsOptions } from "./tls.js";
import { beginsWithScheme, isPort, outOfRange, severalHosts, whyUnreadable } from "./unreadable.js";

export interface Address {
  /** Without the colon, in lower case. */
  readonly scheme: string;
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** Schemes to the port that they have without one. */
export type Schemes = Readonly<Record<string, number>>;

/** Errors: `ConfigurationError` with the code `PH_BROKER_ADDRESS`, which says what is wrong and not what was given. */
export function readAddress(given: string, path: string, schemes: Schemes): Address {
  const [[first, port] = []] = Object.entries(schemes);
  const example = `${first}://user:password@host:${port}`;
  const refuse = (what: string): never => {
    throw new ConfigurationError("PH_BROKER_ADDRESS", `${path} ${what}. Write it as ${example}.`, { path });
  };
  if (!URL.canParse(given) || !beginsWithScheme(given)) return refuse(whyUnreadable(given));
  const url = new URL(given);
  const scheme = url.protocol.slice(0, -1);
  const known = Object.hasOwn(schemes, scheme) ? schemes[scheme] : undefined;
  if (known === undefined)
    return refuse(`has the scheme ${quote(scheme)}; known are ${Object.keys(schemes).join(", ")}`);
  if (url.hostname === "") return refuse("names no host");
  if (url.hostname.includes(",")) return refuse(severalHosts);
  if (url.port !== "" && !isPort(Number(url.port))) return refuse(outOfRange);
  if (url.search !== "" || url.hash !== "" || !["", "/"].includes(url.pathname)) {
    return refuse("holds more than a host, a port and who connects; everything else is an option of its own");
  }
  const decoded = (text: string): string | undefined => {
    try {
      return text === "" ? undefined : decodeURIComponent(text);
    } catch {
      return refuse("has a user or password that is not percent-encoded");
    }
  };
  return {
    scheme,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? known : Number(url.port),
    username: decoded(url.username),
    password: decoded(url.password),
  };
}

/** What no error of a client may hold. A user without a password is a token in more than one protocol. */
export function secretsOf(
  { username, password }: Pick<Address, "username" | "password">,
  tls: TlsOptions | undefined,
  ...more: readonly Given[]
): Secrets {
  return new Secrets([password ?? username, tls?.key, tls?.passphrase, ...more], username);
}

/** Host and port, for people. */
export function hostAndPort({ host, port }: Pick<Address, "host" | "port">): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
