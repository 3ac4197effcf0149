/** Publishes on one channel, and says what RabbitMQ answered to each message. */
import { setImmediate as immediate } from "node:timers/promises";
import type { Channel, Envelope, ReturnedMessage } from "rabbitmq-client";
import { quote } from "../../core/show.js";
import { gather, type Patience } from "../answers.js";
import { codeOf, type Link } from "./link.js";

export interface Publication {
  readonly envelope: Envelope & { readonly exchange: string; readonly routingKey: string; readonly messageId: string };
  readonly body: Buffer;
}

export interface Line extends Link {
  /** What was returned and not asked about yet: by message, why. */
  readonly returned: Map<string, string>;
  /** Why RabbitMQ has closed the channel, when a message was to blame. */
  fault?: unknown;
}

export type Outcome =
  | { readonly kind: "confirmed" | "rejected" }
  | { readonly kind: "returned"; readonly why: string }
  /** The channel was closed because of this message, or of one that was published before it. */
  | { readonly kind: "fault"; readonly error: unknown }
  | { readonly kind: "unknown"; readonly error: unknown };

/** With confirms, before anything is published. */
export async function prepareLine(channel: Channel): Promise<Map<string, string>> {
  const returned = new Map<string, string>();
  await channel.confirmSelect();
  channel.on("basic.return", (message) => returned.set(keyOf(message), reasonOf(message)));
  return returned;
}

/** All at once and in their order. Never rejects; when `signal` fires or RabbitMQ is silent, what has no answer is unknown. */
export async function publish(
  line: Line,
  messages: readonly Publication[],
  patience: Omit<Patience, "silence">,
): Promise<readonly Outcome[]> {
  const outcomes = await gather<Outcome>(
    messages.length,
    { ...patience, silence: (timeoutMs) => new Error(`RabbitMQ has confirmed nothing for ${timeoutMs} ms`) },
    (settle) => {
      for (const [i, { envelope, body }] of messages.entries()) {
        line.channel.basicPublish(envelope, body).then(
          () => settle(i, confirmed),
          (error: unknown) => settle(i, outcomeOf(line, error)),
        );
      }
    },
    (error) => ({ kind: "unknown", error }),
  );
  // RabbitMQ returns a message before it confirms it, but the client tells of a confirm at once and of a return in the next turn.
  await immediate();
  if (line.returned.size === 0) return outcomes;
  return outcomes.map((outcome, i) => {
    const key = outcome.kind === "confirmed" ? keyOf(messages[i]?.envelope ?? {}) : "";
    const why = line.returned.get(key);
    if (why === undefined) return outcome;
    line.returned.delete(key);
    return { kind: "returned", why };
  });
}

const confirmed: Outcome = { kind: "confirmed" };

/** Answers of the broker that close a channel and leave the connection; and the client's, for what it cannot write. */
const faults: ReadonlySet<unknown> = new Set([
  "ACCESS_REFUSED",
  "CODEC",
  "CONTENT_TOO_LARGE",
  "NOT_FOUND",
  "PRECONDITION_FAILED",
  "RESOURCE_LOCKED",
]);

/** The client gives the reason to the first message without an answer, which need not be the one, and says to the others that the channel is closed. */
function outcomeOf(line: Line, error: unknown): Outcome {
  const code = codeOf(error);
  if (code === "NACK") return { kind: "rejected" };
  if (faults.has(code) && error instanceof Error && error.name !== "AMQPConnectionError") line.fault ??= error;
  return line.fault === undefined ? { kind: "unknown", error } : { kind: "fault", error: line.fault };
}

/** One message cannot be both taken and returned, so that those with the same id and route have the same fate. */
function keyOf({ exchange = "", routingKey = "", messageId = "" }: Partial<ReturnedMessage>): string {
  return JSON.stringify([exchange, routingKey, messageId]);
}

function reasonOf({ exchange, routingKey, replyText }: ReturnedMessage): string {
  const by = exchange === "" ? "the default exchange" : `the exchange ${quote(exchange)}`;
  return `no queue is bound for the routing key ${quote(routingKey)} of ${by} (${replyText})`;
}
