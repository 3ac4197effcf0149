/** What `rabbitmq()` is given, checked, and where its messages go. */
import type { ConnectionOptions as TlsOptions } from "node:tls";
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields } from "../../core/options.js";
import { show } from "../../core/show.js";
import type { CloudEvent } from "../envelope.js";
import { readServerUrl, type ServerUrl } from "../server-url.js";

/** A name, or what says it for each event. */
export type Named = string | ((event: CloudEvent) => string);

export interface RabbitMqOptions {
  /** `amqp://user:password@host:5672/vhost`, or `amqps://`. */
  readonly url: string;
  /** Out: the exchange. It must exist. */
  readonly exchange?: Named;
  /** Out: the routing key. Empty where it is not said and there is an exchange. */
  readonly routingKey?: Named;
  /** In: the queue. Out, where no exchange is named: the queue to send to. It must exist. */
  readonly queue?: string;
  /** What Node's `tls.connect` takes beside host and port: `ca`, `cert`, `key`, `servername`. Needs `amqps://`. */
  readonly tls?: TlsOptions;
  readonly connectTimeoutMs?: number;
  readonly heartbeatMs?: number;
}

/** The longest short string of AMQP, in bytes. */
export const shortBytes = 255;

export const rabbitMqFields = {
  url: {
    type: "custom",
    words: "a URL that begins with amqp:// or amqps://",
    doc: "Where it is, with user, password and virtual host. Nothing of it but host and port is ever shown.",
    required: true,
    check: (value: unknown, path: string): ServerUrl => readServerUrl(value, path, { amqp: 5672, amqps: 5671 }),
  },
  exchange: {
    type: "custom",
    words: "a string of 1 to 255 bytes, or a function of the event",
    doc: "Out: the exchange. It must exist. Without it the queue is sent to.",
    check: checkNamed,
  },
  routingKey: {
    type: "custom",
    words: "a string of 1 to 255 bytes, or a function of the event",
    doc: "Out: the routing key. Left out, it is empty, as a fanout exchange wants it.",
    check: checkNamed,
  },
  queue: {
    type: "string",
    maxLength: shortBytes,
    doc: "In: the queue. Out: the queue to send to where no exchange is named. It must exist.",
  },
  tls: {
    type: "custom",
    words: "an object of options for tls.connect",
    doc: "What Node's tls.connect takes beside host and port. A certificate that is not trusted is an error.",
    check: checkTls,
  },
  connectTimeoutMs: {
    type: "duration",
    min: 100,
    max: 120_000,
    default: 10_000,
    doc: "How long opening may take. Too short, and a busy broker is never reached; too long, and one that is away is noticed late.",
  },
  heartbeatMs: {
    type: "duration",
    min: 1_000,
    max: 120_000,
    default: 10_000,
    doc: "How often a connection shows that it lives; one that has been silent for twice as long is lost. Rounded up to seconds.",
  },
} as const satisfies Fields;

export type RabbitMqSettings = ReturnType<typeof checkRabbitMq>;

export function checkRabbitMq(options: unknown) {
  const settings = checkOptions(options, rabbitMqFields, "rabbitmq");
  if (settings.tls !== undefined && settings.url.scheme !== "amqps") {
    const message =
      "rabbitmq.tls is given and the URL begins with amqp://, which is without TLS. Write amqps://, or leave tls out.";
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "rabbitmq.tls" });
  }
  if (settings.routingKey !== undefined && settings.exchange === undefined) {
    const message =
      "rabbitmq.routingKey goes with rabbitmq.exchange, which is missing. To send to one queue, name the queue alone.";
    throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "rabbitmq.exchange" });
  }
  return settings;
}

function checkNamed(value: unknown, path: string): Named {
  if (typeof value === "string" && value !== "" && Buffer.byteLength(value) <= shortBytes) return value;
  if (typeof value === "function") return (event) => value(event);
  const message = `${path} must be a string of 1 to ${shortBytes} bytes, or a function of the event, got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

export function checkTls(value: unknown, path: string): TlsOptions {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  const message = `${path} must be an object of options for tls.connect, got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

/** Where messages go. `exchange` is empty for the default exchange, which sends to the queue that the routing key names. */
export interface Route {
  readonly exchange: Named;
  readonly routingKey: Named;
}

export function routeOf({ exchange, routingKey, queue }: RabbitMqSettings): Route {
  if (exchange !== undefined) return { exchange, routingKey: routingKey ?? "" };
  if (queue !== undefined) return { exchange: "", routingKey: queue };
  const message = "rabbitmq() has nowhere to send to. Name an exchange, or a queue.";
  throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "rabbitmq.exchange" });
}
