/** The URL of a server: read once, and never shown. What people see of it is host and port. */
import { ConfigurationError } from "../core/errors.js";

export interface ServerUrl {
  /** As it was given. For the client alone. */
  readonly url: string;
  readonly scheme: string;
  readonly host: string;
  readonly port: number;
  /** Decoded; undefined where the URL has none. */
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** The path without its first slash, decoded. */
  readonly path: string;
  /** "host:port". */
  readonly where: string;
}

/** Errors: `ConfigurationError` with the code `PH_BROKER_ADDRESS`. It does not repeat the URL: that may hold a password. */
export function readServerUrl(value: unknown, path: string, schemes: Readonly<Record<string, number>>): ServerUrl {
  const known = Object.keys(schemes);
  const refuse = (problem: string): never => {
    const message = `${path} must be a URL such as ${known[0]}://host:${schemes[known[0] ?? ""]}, and ${problem}. It is not shown here: it may hold a password.`;
    throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path });
  };
  if (typeof value !== "string" || !URL.canParse(value)) return refuse("what was given is none");
  const url = new URL(value);
  const scheme = url.protocol.slice(0, -1);
  if (!Object.hasOwn(schemes, scheme)) return refuse(`its scheme is not one of ${known.join(", ")}`);
  if (url.hostname === "") return refuse("it has no host");
  const [user, password, rest] = [url.username, url.password, url.pathname.replace(/^\//, "")].map(decoded);
  if (user === undefined || password === undefined || rest === undefined)
    return refuse("a % in it is followed by no code");
  const port = url.port === "" ? (schemes[scheme] ?? 0) : Number(url.port);
  return {
    url: value,
    scheme,
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port,
    user: user === "" ? undefined : user,
    password: password === "" ? undefined : password,
    path: rest,
    where: `${url.hostname}:${port}`,
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What a client threw, without the passwords and tokens that were given to it. An error without them is passed on as it is. */
export function withoutSecrets(error: unknown, secrets: readonly (string | undefined)[]): unknown {
  const hidden = secrets.flatMap((secret) => secret || []);
  const has = (text: string | undefined) => hidden.some((secret) => text?.includes(secret));
  if (!(error instanceof Error))
    return typeof error === "string" && has(error) ? new Error(hide(error, hidden)) : error;
  const cause = error.cause === undefined ? undefined : withoutSecrets(error.cause, hidden);
  if (!has(error.message) && !has(error.stack) && cause === error.cause) return error;
  const clean = new Error(hide(error.message, hidden), { cause });
  clean.name = error.name;
  return "code" in error ? Object.assign(clean, { code: error.code }) : clean;
}

function hide(text: string, secrets: readonly string[]): string {
  return secrets.reduce((shown, secret) => shown.replaceAll(secret, "…"), text);
}
