/** What Redis says when it does not do something. The first word of an error is its code, by the protocol; nothing is decided on the rest. */
import { ConfigurationError } from "../../core/errors.js";
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { Plain } from "../probe.js";
import { type Denied, toMend, type Way } from "../to-mend.js";
import type { Settings } from "./options.js";

/** The code of an error that came from Redis itself; undefined for a lost connection and everything else. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && error.name === "ReplyError" ? /^[A-Z]+/.exec(error.message)?.[0] : undefined;
}

const denied: ReadonlyMap<string | undefined, Denied> = new Map([
  ["WRONGPASS", "credentials"],
  ["NOAUTH", "credentials"],
  ["NOPERM", "right"],
]);
/** Also whoever is not let in is answered, in one line that begins with + or -. */
const plain: Plain = { says: Buffer.from("PING\r\n"), isAnswer: (got) => got[0] === 0x2b || got[0] === 0x2d };

export function wayOf({ address, secrets }: Settings): Way {
  return {
    broker: "Redis",
    where: hostAndPort(address),
    servers: [address],
    scheme: address.scheme,
    schemes: ["redis", "rediss"],
    secrets,
    plain,
    // Twice: others wait for more than one line.
    hello: { says: Buffer.from("PING\r\nPING\r\n"), isOne: plain.isAnswer },
    denied: (error) => denied.get(codeOf(error)),
  };
}

/** The name of the command that was refused, as the client keeps it beside the error. */
function commandOf(error: unknown): unknown {
  const command = error instanceof Error && "command" in error ? error.command : undefined;
  return typeof command === "object" && command !== null && "name" in command ? command.name : undefined;
}

/** The server has no database of that number: SELECT is refused by ERR, whatever the text beside it is. */
function noDatabase(error: unknown, { database, address }: Settings): ConfigurationError | undefined {
  if (codeOf(error) !== "ERR" || commandOf(error) !== "select") return undefined;
  const where = hostAndPort(address);
  const message = `Redis at ${where} has no database ${database}. Name one of those that it has in \`database\`: 16, counted from 0, unless \`databases\` in its configuration says otherwise, and 0 alone in a cluster.`;
  return new ConfigurationError("PH_BROKER_DESTINATION", message, { database, where });
}

/** What was said of an error that was worded here: a connection that is lost is met again by whoever uses it. */
const worded = new WeakMap<Error, string>();

/** The client's errors hold the command with its arguments: payloads, and the password of the greeting. What is passed on holds the text alone, or what is to be mended. */
export function said(what: string, settings: Settings, error: unknown): Error {
  if (error instanceof Error && worded.get(error) === what) return error;
  const mended = noDatabase(error, settings) ?? toMend(wayOf(settings), error);
  if (mended !== undefined) return mended;
  const { where, secrets } = settings;
  const text = error instanceof Error ? error.message || error.name : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const clean = withoutSecrets(new Error(`${what} (${where}): ${text}`), secrets);
  const known = clean instanceof Error ? clean : new Error(`${what} (${where})`);
  worded.set(known, what);
  return typeof code === "string" ? Object.assign(known, { code }) : known;
}
