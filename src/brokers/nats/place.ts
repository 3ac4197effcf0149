/** Where a message is in its stream: told by the subject that its acknowledgement goes to. */

/** In the stream, and how often it was sent. `storedAt`: when the stream took it, in nanoseconds since 1970. */
export interface InStream {
  readonly sequence: number;
  readonly deliveries: number;
  readonly storedAt: string;
}

/** Reads the subjects of one consumer, whose beginnings are the same. */
export class Places {
  /** Up to the number of deliveries. */
  #begin: string | undefined;

  /** `$JS.ACK.stream.consumer.deliveries.sequence.of the consumer.time.left`, or the newer one with domain and account before the stream. */
  of(reply: string): InStream | undefined {
    if (this.#begin === undefined || !reply.startsWith(this.#begin)) this.#begin = beginOf(reply);
    if (this.#begin === undefined) return undefined;
    const sequenceAt = reply.indexOf(".", this.#begin.length) + 1;
    const consumerAt = reply.indexOf(".", sequenceAt) + 1;
    const timeAt = reply.indexOf(".", consumerAt) + 1;
    const end = reply.indexOf(".", timeAt);
    if (sequenceAt === 0 || consumerAt === 0 || timeAt === 0 || end < 0) return undefined;
    const sequence = Number(reply.slice(sequenceAt, consumerAt - 1));
    const deliveries = Number(reply.slice(this.#begin.length, sequenceAt - 1));
    return Number.isSafeInteger(sequence) ? { sequence, deliveries, storedAt: reply.slice(timeAt, end) } : undefined;
  }
}

function beginOf(reply: string): string | undefined {
  const parts = reply.split(".");
  if (parts[0] !== "$JS" || parts[1] !== "ACK" || parts.length < 9) return undefined;
  return `${parts.slice(0, parts.length === 9 ? 4 : 6).join(".")}.`;
}
