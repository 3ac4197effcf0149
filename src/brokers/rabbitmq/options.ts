/** What `rabbitmq()` is given, checked, and where its messages go. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import type { Secrets } from "../../core/secrets.js";
import { show } from "../../core/show.js";
import { type Address, hostAndPort, readAddress, secretsOf } from "../address.js";
import type { CloudEvent } from "../envelope.js";
import { type TlsOptions, tlsFields } from "../tls.js";

/** A name, or the function that tells it for each event. */
export type Named = string | ((event: CloudEvent) => string);

export interface RabbitMqOptions {
  readonly url: string;
  readonly exchange?: Named;
  readonly routingKey?: Named;
  readonly queue?: string;
  readonly maxMessageBytes?: number;
  readonly timeoutMs?: number;
  readonly tls?: TlsOptions;
}

/** The longest short string of AMQP, in bytes. */
export const shortBytes = 255;
const named = `a string of 1 to ${shortBytes} bytes, or a function of the event`;

export const rabbitmqFields = {
  url: {
    type: "string",
    doc: "`amqp://user:password@host:5672/vhost`, or `amqps://` for TLS; user, password, port and virtual host may be left out",
    maxLength: 2_000,
    required: true,
    secret: true,
  },
  exchange: {
    type: "custom",
    doc: "What a relay publishes to: an exchange that exists, or a function that tells it for each event. Without it: the queue",
    words: named,
    check: checkNamed,
  },
  routingKey: {
    type: "custom",
    doc: "The routing key, or a function that tells it for each event. Without it: empty, as a fanout exchange wants it",
    words: named,
    check: checkNamed,
  },
  queue: {
    type: "string",
    doc: "What an intake reads, and what a relay sends to where no exchange is named: a queue that exists",
    maxLength: shortBytes,
  },
  maxMessageBytes: {
    type: "integer",
    doc: "The largest body that is sent, in bytes; a larger one is refused. Set it to the broker's `max_message_size`: without it the broker closes the channel over such a message, and its neighbours are sent again",
    min: 1,
    max: 536_870_912,
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
    doc: "For `amqps://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

/** What the rest works with. */
export interface Settings extends Omit<OptionsOf<typeof rabbitmqFields>, "url"> {
  readonly address: Address;
  readonly vhost: string;
  /** For people. */
  readonly where: string;
  /** What no error may hold. */
  readonly secrets: Secrets;
}

export function readSettings(options: RabbitMqOptions): Settings {
  const { url, ...checked } = checkOptions(options, rabbitmqFields, "rabbitmq");
  const { address, vhost } = readUrl(url);
  if (checked.tls !== undefined && address.scheme !== "amqps") {
    refuse(
      "PH_OPTION_INVALID",
      "rabbitmq.tls",
      "is given and the URL begins with amqp://, which is without TLS. Write amqps://",
    );
  }
  if (checked.routingKey !== undefined && checked.exchange === undefined) {
    refuse(
      "PH_OPTION_MISSING",
      "rabbitmq.exchange",
      "is missing, and rabbitmq.routingKey goes with it. To send to one queue, name the queue alone",
    );
  }
  const names = [
    checked.exchange === undefined
      ? []
      : [`exchange ${typeof checked.exchange === "string" ? checked.exchange : "by event"}`],
    checked.queue === undefined ? [] : [`queue ${checked.queue}`],
  ].flat();
  const where = [hostAndPort(address), ...names].join(" ");
  return { ...checked, address, vhost, where, secrets: secretsOf(address, checked.tls) };
}

/** The path is the virtual host, one part; "/" where it is empty. */
function readUrl(given: string): { readonly address: Address; readonly vhost: string } {
  const schemes = { amqp: 5672, amqps: 5671 };
  if (!URL.canParse(given)) return { address: readAddress(given, "rabbitmq.url", schemes), vhost: "/" };
  const url = new URL(given);
  const path = url.pathname.slice(1);
  if (url.hostname !== "") url.pathname = "";
  const address = readAddress(url.href, "rabbitmq.url", schemes);
  try {
    if (!path.includes("/")) return { address, vhost: path === "" ? "/" : decodeURIComponent(path) };
  } catch {
    // Said below.
  }
  return refuse("PH_BROKER_ADDRESS", "rabbitmq.url", "has a virtual host that is not percent-encoded");
}

function refuse(
  code: "PH_OPTION_INVALID" | "PH_OPTION_MISSING" | "PH_BROKER_ADDRESS",
  path: string,
  what: string,
): never {
  throw new ConfigurationError(code, `${path} ${what}.`, { path });
}

function checkNamed(value: unknown, path: string): Named {
  const isText = typeof value === "string" && !value.includes("\0") && value.isWellFormed();
  if (isText && value !== "" && Buffer.byteLength(value) <= shortBytes) return value;
  if (typeof value === "function") return (event) => value(event);
  return refuse("PH_OPTION_INVALID", path, `must be ${named}, got ${show(value)}`);
}

/** Where messages go. `exchange` is empty for the default exchange, which sends to the queue that the routing key names. */
export interface Route {
  readonly exchange: Named;
  readonly routingKey: Named;
  /** The largest body. */
  readonly mostBytes: number;
}

export function routeOf({ exchange, routingKey, queue, maxMessageBytes = Number.POSITIVE_INFINITY }: Settings): Route {
  const mostBytes = maxMessageBytes;
  if (exchange !== undefined) return { exchange, routingKey: routingKey ?? "", mostBytes };
  if (queue !== undefined) return { exchange: "", routingKey: queue, mostBytes };
  return refuse("PH_OPTION_MISSING", "rabbitmq", "names nothing to send to. Name an exchange, or a queue");
}
