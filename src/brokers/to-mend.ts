/**
 * Tells what somebody has to mend from a broker that is away: credentials that are refused, a right that is missing, a certificate that is not accepted, TLS
 * where the other side speaks none, and the other way round. The first are known by codes of the broker and of Node. Where one side speaks TLS and the other
 * does not, many a broker only closes the connection, or waits for more; so it is asked once more the other way, with nothing of what is secret. So it is where
 * the address is that of something else, which answers in a protocol of its own.
 *
 * A broker that is away stays away: what is not certain is no error.
 */
import type { ConnectionOptions } from "node:tls";
import { ConfigurationError } from "../core/errors.js";
import { type Secrets, withoutSecrets } from "../core/secrets.js";
import { type TlsTrouble, tlsTroubleOf } from "../core/tls-codes.js";
import { clause } from "../core/words.js";
import { type Hello, type Plain, speaksElse, speaksPlain, speaksTls } from "./probe.js";

/** One way to a broker. */
export interface Way {
  /** As people call it: "NATS". */
  readonly broker: string;
  /** Host and port, for people. */
  readonly where: string;
  readonly servers: readonly { readonly host: string; readonly port: number }[];
  readonly scheme: string;
  /** What addresses begin with, without TLS and with it. */
  readonly schemes: readonly [plain: string, tls: string];
  readonly secrets: Secrets;
  /** What the broker says no to, if that is what one error says. It is asked of causes and of errors in errors as well. */
  readonly denied: (error: unknown) => Denied | undefined;
  /** How a server without TLS is recognised; left out where its answer to TLS tells. */
  readonly plain?: Plain;
  /** How a server that is no such broker is recognised. */
  readonly hello: Hello;
  /** With what it is asked that through TLS; left out where it is asked without. */
  readonly tls?: ConnectionOptions;
}

export type Denied = "credentials" | "right";

/** A broker that has said nothing for so long is asked the other way meanwhile: it may wait for the end of what it takes for a line. */
const silentMs = 2_000;

/**
 * What `work`, the opening of a connection, comes to. `signal` ends it.
 *
 * Errors: `ConfigurationError` with the code `PH_BROKER_DENIED`, `PH_BROKER_TLS` or `PH_BROKER_ADDRESS` for what is to be mended; otherwise what `work` rejects with.
 */
export async function opening<T>(way: Way, work: Promise<T>, signal: AbortSignal): Promise<T> {
  let probe: Promise<ConfigurationError | undefined> | undefined;
  const probed = () => {
    probe ??= signal.aborted ? Promise.resolve(undefined) : otherThanSaid(way, signal);
    return probe;
  };
  let timer: NodeJS.Timeout | undefined;
  const early = new Promise<never>((_, reject) => {
    timer = setTimeout(() => void probed().then((found) => found && reject(found)), silentMs);
  });
  try {
    return await Promise.race([work, early]);
  } catch (error) {
    throw toMend(way, error) ?? (await probed()) ?? error;
  } finally {
    clearTimeout(timer);
  }
}

/** What is to be mended, as far as the error itself says so; undefined for everything else. */
export function toMend(way: Way, error: unknown): ConfigurationError | undefined {
  if (error instanceof ConfigurationError) return error;
  return findIn(error, (one) => {
    const denied = way.denied(one);
    if (denied !== undefined) return refusal(way, denied, one);
    const code = stringCodeOf(one);
    if (code === undefined) return undefined;
    const trouble = tlsTroubleOf(code);
    return trouble === undefined ? undefined : tlsFault(way, says[trouble](way, code), one);
  });
}

/** What is wrong with the address, as far as it can be asked for. Never rejects. */
async function otherThanSaid(way: Way, signal: AbortSignal): Promise<ConfigurationError | undefined> {
  const [door, protocol] = await Promise.all([otherWay(way, signal), elsewhere(way, signal)]);
  return door ?? protocol;
}

/** Whether the other side is something else. Of several servers of a cluster one tells. Never rejects. */
export async function elsewhere(
  { broker, where, servers, hello, tls }: Way,
  signal: AbortSignal,
): Promise<ConfigurationError | undefined> {
  if (!(await anyOf(servers, (server) => speaksElse(server, hello, signal, tls)))) return undefined;
  const wanted = broker.replace(/^The /, "an ");
  const message = `What answers at ${where} is something else than ${wanted}: it speaks another protocol. Look at the host and the port, and at what the address begins with.`;
  return new ConfigurationError("PH_BROKER_ADDRESS", message, { broker, where });
}

/** Whether the other side speaks what the address does not say. Never rejects. */
async function otherWay(way: Way, signal: AbortSignal): Promise<ConfigurationError | undefined> {
  const { broker, where, scheme, schemes, servers, plain } = way;
  const [without, encrypted] = schemes;
  if (scheme === without) {
    if (!(await anyOf(servers, (server) => speaksTls(server, signal)))) return undefined;
    const text = `${broker} at ${where} speaks TLS, and its address begins with ${without}://. Write ${encrypted}://.`;
    return tlsFault(way, text);
  }
  if (plain === undefined || !(await anyOf(servers, (server) => speaksPlain(server, plain, signal)))) return undefined;
  const text = `${broker} at ${where} speaks no TLS, and its address begins with ${encrypted}://. Write ${without}://, or turn TLS on there.`;
  return tlsFault(way, text);
}

async function anyOf<T>(servers: readonly T[], test: (server: T) => Promise<boolean>): Promise<boolean> {
  return (await Promise.all(servers.map(test))).includes(true);
}

const says: Readonly<Record<TlsTrouble, (way: Way, code: string) => string>> = {
  certificate: ({ broker, where, scheme, schemes: [without, encrypted] }, code) => {
    const first = scheme === without ? `Write ${encrypted}://, and give` : "Give";
    return `The certificate of ${broker} at ${where} is not accepted (${code}). ${first} its signer as PEM in tls.ca, where that is nobody whom Node knows.`;
  },
  expired: ({ broker, where }, code) =>
    `The certificate of ${broker} at ${where} is not valid today (${code}). Renew it there, or look at the clock here.`,
  name: ({ broker, where }, code) =>
    `The certificate of ${broker} at ${where} is for another name (${code}). Write the host that it is for, or give that name in tls.servername.`,
  agreement: ({ broker, where, scheme, schemes: [without] }, code) => {
    const ways = scheme === without ? "" : ` Where it speaks no TLS, write ${without}://.`;
    return `${broker} at ${where} and this client agree on no TLS (${code}).${ways} Otherwise look at the versions that it takes, and whether it wants a certificate of the client in tls.cert and tls.key.`;
  },
};

function tlsFault({ broker, where, secrets }: Way, message: string, cause?: unknown): ConfigurationError {
  const clean = cause === undefined ? undefined : withoutSecrets(cause, secrets);
  return new ConfigurationError("PH_BROKER_TLS", message, { broker, where }, clean);
}

function refusal({ broker, where, secrets }: Way, denied: Denied, error: unknown): ConfigurationError {
  const text = error instanceof Error ? clause(secrets.hide(error.message)) : "";
  const said = text === "" ? "" : ` It says: ${text}.`;
  const message =
    denied === "credentials"
      ? `${broker} at ${where} does not let this client in: its user, password or token is wrong or missing. Correct it.${said}`
      : `${broker} at ${where} does not allow this user what is needed here. Give it the right.${said}`;
  return new ConfigurationError("PH_BROKER_DENIED", message, { broker, where }, withoutSecrets(error, secrets));
}

const deepest = 8;

/** The first that is found in an error, its causes and the errors in it. */
export function findIn<T>(error: unknown, look: (one: unknown) => T | undefined, depth = 0): T | undefined {
  if (typeof error !== "object" || error === null || depth > deepest) return undefined;
  const found = look(error);
  if (found !== undefined) return found;
  const inner: readonly unknown[] = "errors" in error && Array.isArray(error.errors) ? error.errors : [];
  for (const one of "cause" in error ? [...inner, error.cause] : inner) {
    const deeper = findIn(one, look, depth + 1);
    if (deeper !== undefined) return deeper;
  }
  return undefined;
}

export function stringCodeOf(error: unknown): string | undefined {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}
