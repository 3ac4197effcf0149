/** What an answer to a fetch holds: which offsets it covers, and which messages are to be seen. */
import type { Incoming } from "../broker.js";
import { setHeader } from "../header-names.js";
import { KnownNames } from "../known-names.js";
import type { Held } from "./held.js";

/** The parts of the client's answer that are read here. */
interface Record {
  readonly offsetDelta: number;
  readonly key?: Buffer | null;
  readonly value?: Buffer | null;
  readonly headers: readonly (readonly [Buffer | null, Buffer | null])[] | ReadonlyMap<Buffer, Buffer>;
}
interface Batch {
  readonly attributes: number;
  readonly firstOffset: bigint;
  readonly lastOffsetDelta: number;
  readonly producerId: bigint;
  readonly partitionLeaderEpoch: number;
  readonly records: readonly Record[];
}
export interface FetchedPartition {
  readonly records?: readonly Batch[];
  readonly abortedTransactions?: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[] | null;
}

const transactional = 1 << 4;
const control = 1 << 5;
const abortMarker = 0;

/** A topic by its name, and by the id that another one of this name will not have. */
export interface Topic {
  readonly topic: string;
  readonly topicId: string;
}

/** Puts what was fetched from `held.position` on into `held`, and moves the position behind it. */
export function readInto(held: Held, { topic, topicId }: Topic, fetched: FetchedPartition): void {
  const from = held.position;
  const isVisible = visibility(fetched);
  for (const batch of fetched.records ?? []) {
    if (isVisible(batch)) {
      for (const record of batch.records) {
        const offset = batch.firstOffset + BigInt(record.offsetDelta);
        // A batch is sent as a whole, also where only its end is new.
        if (offset >= from)
          held.add(incomingOf(record, { topic, held, offset, since: `${topicId}.${batch.partitionLeaderEpoch}` }));
      }
    }
    const next = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
    if (next > held.position) held.position = next;
  }
}

/** Marks of transactions are no messages, and neither is what was rolled back. Batches are asked about in their order. */
function visibility({ abortedTransactions }: FetchedPartition): (batch: Batch) => boolean {
  const begins = [...(abortedTransactions ?? [])].sort((a, b) => Number(a.firstOffset - b.firstOffset));
  const aborted = new Set<bigint>();
  return (batch) => {
    const last = batch.firstOffset + BigInt(batch.lastOffsetDelta);
    for (let next = begins[0]; next !== undefined && next.firstOffset <= last; next = begins[0]) {
      aborted.add(next.producerId);
      begins.shift();
    }
    if ((batch.attributes & control) !== 0) {
      if (batch.records[0]?.key?.readInt16BE(2) === abortMarker) aborted.delete(batch.producerId);
      return false;
    }
    return (batch.attributes & transactional) === 0 || !aborted.has(batch.producerId);
  };
}

interface Place {
  readonly topic: string;
  readonly held: Held;
  readonly offset: bigint;
  /** A topic that was made anew, and a partition whose end was lost with its leader, give an offset once more. It tells the two messages apart. */
  readonly since: string;
}

const names = new KnownNames((name) => name.toLowerCase());
const none = Buffer.alloc(0);

function incomingOf({ key, value, headers }: Record, { topic, held, offset, since }: Place): Incoming {
  const named: { [name: string]: string } = {};
  let contentType: string | undefined;
  let place = 0;
  for (const [name, text] of headers) {
    const lower = names.at(place, name ?? none);
    if (lower === "content-type") contentType = text?.toString();
    else setHeader(named, lower, text?.toString() ?? "");
    place += 1;
  }
  return {
    headers: named,
    contentType,
    body: value ?? none,
    ...(key != null && { key: key.toString() }),
    position: `${topic}/${held.partition}/${offset}@${since}`,
    handle: { held, offset },
  };
}
