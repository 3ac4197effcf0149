/**
 * Notices what a stream has removed, by its limits or a purge, before its consumer was given it: the stream goes on with the first that is left, without a word.
 *
 * By the sequences of what comes, so only where the consumer takes all of the stream; and only where the stream itself removes nothing else: what others have
 * acknowledged, or what a newer message of its subject has replaced.
 */
import type { ConsumerInfo, StreamConfig } from "@nats-io/jetstream";

export class Gap {
  #last: number | undefined;

  private constructor(last: number | undefined) {
    this.#last = last;
  }

  static of({ config, delivered }: ConsumerInfo, stream: StreamConfig): Gap | undefined {
    const filters = config.filter_subjects ?? (config.filter_subject ? [config.filter_subject] : []);
    const takesAll = filters.length === 0 || (filters.length === 1 && filters[0] === stream.subjects?.join(" "));
    const removesOld = stream.retention === "limits" && !(stream.max_msgs_per_subject > 0);
    if (!takesAll || !removesOld) return undefined;
    // A new consumer has missed nothing.
    return new Gap(delivered.consumer_seq > 0 ? delivered.stream_seq : undefined);
  }

  /** Of a message that comes: the last before it, where those in between have not come. */
  before(sequence: number): number | undefined {
    const last = this.#last;
    this.#last = Math.max(sequence, last ?? 0);
    return last !== undefined && sequence > last + 1 ? last : undefined;
  }
}
