/** The options of `sqs({ … })`, checked. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import { Secrets } from "../../core/secrets.js";
import { show } from "../../core/show.js";
import { type Address, hostAndPort, readAddress } from "../address.js";
import { type TlsOptions, tlsFields } from "../tls.js";

/** The keys of an AWS identity. */
export interface SqsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export const credentialFields = {
  accessKeyId: { type: "string", doc: "The id of the key", maxLength: 1_000, required: true, secret: true },
  secretAccessKey: { type: "string", doc: "The key", maxLength: 1_000, required: true, secret: true },
  sessionToken: { type: "string", doc: "The token of a temporary key", maxLength: 10_000, secret: true },
} as const satisfies Fields;

export const sqsFields = {
  queue: {
    type: "custom",
    doc: "The name of a queue that exists; one that ends in `.fifo` keeps the order of each key",
    words: "the name of a queue",
    required: true,
    check: checkQueue,
  },
  owner: { type: "string", doc: "The account that the queue belongs to, where it is another one", maxLength: 20 },
  region: {
    type: "string",
    doc: "The region, `eu-central-1`. Without it: what the environment or the profile of the SDK says",
    maxLength: 100,
  },
  url: {
    type: "string",
    doc: "Where SQS is, where it is not AWS itself: `http://key:secret@host:9324`, or `https://`; a key in it is used as `credentials` are",
    maxLength: 2_000,
    secret: true,
  },
  credentials: {
    type: "object",
    doc: "Who connects. Without it: what the SDK finds by itself, in the environment, in a profile, from the machine",
    fields: credentialFields,
  },
  concurrency: {
    type: "integer",
    doc: "Requests on their way at once; too few and each waits for the ones before it, too many and SQS throttles",
    min: 1,
    max: 100,
    default: 10,
  },
  visibilityMs: {
    type: "duration",
    doc: "For how long SQS hides from others what an intake was given; it is prolonged while the intake lives, so too long only holds up what a crash leaves behind, and too short repeats what a pause holds up",
    min: 5_000,
    max: 43_200_000,
    default: 60_000,
  },
  pollMs: {
    type: "duration",
    doc: "How long one question for messages waits at SQS for the first; too short and an idle queue costs more, each question is paid for, and too long holds up the close of an intake, which waits for the answer",
    min: 1_000,
    max: 20_000,
    default: 5_000,
  },
  timeoutMs: {
    type: "duration",
    doc: "How long the broker may say nothing while something waits for its answer; too short and a slow broker counts as away, too long and a dead connection goes unnoticed for so long",
    min: 100,
    max: 600_000,
    default: 15_000,
  },
  tls: {
    type: "object",
    doc: "For `https://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

export interface SqsOptions {
  readonly queue: string;
  readonly owner?: string;
  readonly region?: string;
  readonly url?: string;
  readonly credentials?: SqsCredentials;
  readonly concurrency?: number;
  readonly visibilityMs?: number;
  readonly pollMs?: number;
  readonly timeoutMs?: number;
  readonly tls?: TlsOptions;
}

/** What the rest works with. */
export interface Settings extends Omit<OptionsOf<typeof sqsFields>, "url" | "credentials"> {
  readonly isFifo: boolean;
  /** Without the key; undefined: AWS itself. */
  readonly endpoint: string | undefined;
  readonly credentials: SqsCredentials | undefined;
  /** Host, port and queue. */
  readonly where: string;
  /** What must not be seen. */
  readonly secrets: Secrets;
}

/** Errors: `ConfigurationError`. */
export function readSettings(options: SqsOptions): Settings {
  const { url, credentials: given, ...others } = checkOptions(options, sqsFields, "sqs");
  const address = url === undefined ? undefined : readAddress(url, "sqs.url", { http: 80, https: 443 });
  if (others.tls !== undefined && address?.scheme === "http") {
    throw new ConfigurationError("PH_OPTION_INVALID", "sqs.tls is for an address that begins with https://.", {
      path: "sqs.tls",
    });
  }
  const inUrl = keyOf(address);
  if (given !== undefined && inUrl !== undefined) {
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      "sqs.credentials are given and the URL has a key. Give one of them.",
      {
        path: "sqs.credentials",
      },
    );
  }
  const credentials = given ?? inUrl;
  const host = address === undefined ? `sqs.${others.region ?? "(region)"}.amazonaws.com` : hostAndPort(address);
  return {
    ...others,
    isFifo: isFifo(others.queue),
    endpoint: address === undefined ? undefined : `${address.scheme}://${hostAndPort(address)}`,
    credentials,
    where: `${host}/${others.queue}`,
    secrets: new Secrets([
      credentials?.secretAccessKey,
      credentials?.sessionToken,
      credentials?.accessKeyId,
      others.tls?.key,
      others.tls?.passphrase,
    ]),
  };
}

function keyOf(address: Address | undefined): SqsCredentials | undefined {
  const { username, password } = address ?? {};
  if (username === undefined && password === undefined) return undefined;
  if (username !== undefined && password !== undefined) return { accessKeyId: username, secretAccessKey: password };
  const message = "sqs.url has one half of a key. Write both, as http://key:secret@host:9324, or none.";
  throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path: "sqs.url" });
}

/** SQS tells the two kinds of queue apart by their names. */
export function isFifo(queue: string): boolean {
  return queue.endsWith(".fifo");
}

function checkQueue(value: unknown, path: string): string {
  if (typeof value === "string" && value.length <= 80 && /^[\w-]+(\.fifo)?$/.test(value)) return value;
  const message = `${path} must be the name of a queue: up to 80 letters, digits, - and _, and .fifo at the end of a FIFO queue; got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}
