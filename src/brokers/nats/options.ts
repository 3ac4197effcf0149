/** What `nats()` is given, checked. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import type { Secrets } from "../../core/secrets.js";
import { quote, show } from "../../core/show.js";
import { type Address, hostAndPort, readAddress, secretsOf } from "../address.js";
import type { CloudEvent } from "../envelope.js";
import { type TlsOptions, tlsFields } from "../tls.js";
import { subjectProblem } from "./subjects.js";

/** A subject, or the function that tells it for each event. */
export type Subject = string | ((event: CloudEvent) => string);

export interface NatsOptions {
  readonly url: string;
  readonly stream: string;
  readonly subject?: Subject;
  readonly consumer?: string;
  readonly ackWaitMs?: number;
  readonly domain?: string;
  readonly timeoutMs?: number;
  readonly token?: string;
  readonly tls?: TlsOptions;
}

/** What NATS allows in the names of streams and consumers, which are parts of subjects. */
const name = /^[^\s.*>/\\\p{Cc}\p{Cs}]{1,255}$/u;

const named = (doc: string) =>
  ({ type: "custom", words: "a name without spaces and none of . * > / \\", doc, check: checkName }) as const;

export const natsFields = {
  url: {
    type: "string",
    doc: "`nats://user:password@host:4222`, or `tls://` for TLS; user, password and port may be left out. A user without a password is a token",
    maxLength: 2_000,
    required: true,
    secret: true,
  },
  stream: { ...named("The stream of JetStream, which exists"), required: true },
  subject: {
    type: "custom",
    doc: "What a relay publishes to: a subject of the stream, or a function that tells it for each event. For an intake: which subjects of the stream it takes, a text, wildcards allowed; all of them without it",
    words: "a subject, or a function of the event",
    check: checkSubject,
  },
  consumer: named(
    "The durable consumer by which the stream knows how far an intake is. It is made if it does not exist, and no other intake may read by one that was made for this. Without it: `posthorn-<intake>@<service>`",
  ),
  ackWaitMs: {
    type: "duration",
    doc: "For a consumer that is made: how long the stream waits for an acknowledgement before it sends a message again; too short and slow commits cause copies, which an intake drops, too long and what another reader left lies for so long",
    min: 1_000,
    max: 86_400_000,
    default: 60_000,
  },
  domain: named("The JetStream domain, where it is not the one of the server that is connected to"),
  timeoutMs: {
    type: "duration",
    doc: "How long the broker may say nothing while something waits for its answer; too short and a slow broker counts as away, too long and a dead connection goes unnoticed for so long",
    min: 100,
    max: 600_000,
    default: 15_000,
  },
  token: {
    type: "string",
    doc: "A token, where the server wants one instead of a user",
    maxLength: 10_000,
    secret: true,
  },
  tls: {
    type: "object",
    doc: "For `tls://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

/** What the rest works with. */
export interface Settings extends Omit<OptionsOf<typeof natsFields>, "url"> {
  readonly address: Address;
  /** For people. */
  readonly where: string;
  /** What no error may hold. */
  readonly secrets: Secrets;
}

export function readSettings(options: NatsOptions): Settings {
  const { url, ...checked } = checkOptions(options, natsFields, "nats");
  const address = readAddress(url, "nats.url", { nats: 4222, tls: 4222 });
  if (checked.tls !== undefined && address.scheme !== "tls") {
    refuse(
      "nats.tls",
      "is given and the URL begins with nats://, which goes without TLS where the server allows it. Write tls://",
    );
  }
  if (checked.token !== undefined && address.username !== undefined) {
    refuse("nats.token", "is given and the URL has a user. Give one of them");
  }
  // A user without a password is a token.
  const token = checked.token ?? (address.password === undefined ? address.username : undefined);
  return {
    ...checked,
    ...(token !== undefined && { token }),
    address,
    where: `${hostAndPort(address)} stream ${checked.stream}`,
    secrets: secretsOf(address, checked.tls, token),
  };
}

export function refuse(path: string, what: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${what}.`, { path });
}

function checkName(value: unknown, path: string): string {
  if (typeof value === "string" && name.test(value)) return value;
  return refuse(path, `must be a name without spaces and none of . * > / \\, got ${show(value)}`);
}

function checkSubject(value: unknown, path: string): Subject {
  if (typeof value === "function") return (event) => value(event);
  if (typeof value !== "string")
    return refuse(path, `must be a subject or a function of the event, got ${show(value)}`);
  const problem = subjectProblem(value, { wildcards: true });
  return problem === undefined ? value : refuse(path, `cannot be ${quote(value)}: ${problem}`);
}
