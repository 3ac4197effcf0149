/**
 * The way out to Kafka: one request at a time, which carries a batch for each partition; what arrives meanwhile goes with the next one.
 *
 * One at a time because the sequence numbers of an idempotent producer are given when a request is made: two requests for one partition that overlap in
 * the client would carry the same numbers, and the broker would take the second for a repetition of the first, and acknowledge what it never wrote.
 * For the same reason a producer is not used again after an error: the client may have lost count.
 */
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import { Call } from "../call.js";
import { type EnvelopeMode, encode } from "../envelope.js";
import { baseOptions, checkTopic, closeClient, type KafkaProducer, type Library, loadKafka, said } from "./client.js";
import { findIn, propertyOf, type Verdict, verdictOf } from "./errors.js";
import type { Settings } from "./options.js";
import { partitionOf } from "./partition.js";

const style = { prefix: "ce_", percent: false };
/** Bytes of one request over all partitions. */
const requestBytes = 8_000_000;
/** What a record takes beside its key, value and headers, and each header beside its name and value: rounded up. */
const recordOverheadBytes = 40;
const headerOverheadBytes = 6;
/** An interrupted connection is tried again by the client itself, under the same sequence numbers: the broker drops what it has already. */
const repetitions = 2;
const repetitionsMs = 1_000;

/** Errors: as `openSender` of a broker. */
export async function openKafkaSender(settings: Settings, options: OpenOptions): Promise<Sender> {
  const library = await loadKafka();
  const sender = new KafkaSender(settings, options, library);
  try {
    await sender.open(options.signal);
  } catch (error) {
    await sender.close();
    throw error;
  }
  return sender;
}

interface KafkaRecord {
  readonly topic: string;
  readonly partition: number;
  readonly key?: Buffer;
  readonly value: Buffer;
  readonly headers: Map<Buffer, Buffer>;
}

/** One message of one call, on its way. */
interface Entry {
  readonly record: KafkaRecord;
  readonly bytes: number;
  readonly call: Call;
  readonly index: number;
}

class KafkaSender implements Sender {
  readonly #settings: Settings;
  readonly #library: Library;
  readonly #name: string;
  readonly #mode: EnvelopeMode;
  readonly #onTrouble: (error: unknown) => void;
  readonly #headerNames = new Map<string, Buffer>();
  readonly #farewells = new Set<Promise<void>>();
  #producer: KafkaProducer | undefined;
  #partitions = 1;
  #batchBytes: number;
  #nextPartition = Math.floor(Math.random() * 1_000);
  #queue: Entry[] = [];
  /** The calls that the request on its way carries, and how to stop waiting for it. */
  #flight: { readonly calls: ReadonlySet<Call>; readonly giveUp: () => void } | undefined;
  #pumping = false;
  #closed = false;

  constructor(settings: Settings, { name, mode, onTrouble }: OpenOptions, library: Library) {
    this.#settings = settings;
    this.#library = library;
    this.#name = name;
    this.#mode = mode ?? "binary";
    this.#onTrouble = onTrouble;
    this.#batchBytes = settings.batchBytes;
  }

  async open(signal: AbortSignal): Promise<void> {
    const producer = this.#producerNow();
    await checkTopic(producer, this.#settings, signal);
    this.#readPartitions(producer);
  }

  send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    const call = new Call(messages.length);
    if (this.#closed || signal.aborted) {
      call.settleRest(this.#unavailable(this.#closed ? "the sender is closed" : "the call was given up"));
      return call.answer;
    }
    const keyless = this.#nextPartition++ % this.#partitions;
    for (const [index, message] of messages.entries()) this.#queue.push(this.#entryOf(message, call, index, keyless));
    const giveUp = () => this.#giveUp(call);
    signal.addEventListener("abort", giveUp, { once: true });
    void this.#pump();
    return call.answer.finally(() => signal.removeEventListener("abort", giveUp));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#endAll(this.#unavailable("the sender was closed"));
    this.#flight?.giveUp();
    this.#retire();
    await Promise.all(this.#farewells);
  }

  #entryOf({ event, key }: Outgoing, call: Call, index: number, keyless: number): Entry {
    const { headers, contentType, body } = encode(event, this.#mode, style);
    const value = Buffer.from(body);
    let bytes = value.length + recordOverheadBytes;
    const map = new Map<Buffer, Buffer>();
    for (const [name, text] of Object.entries({ ...headers, "content-type": contentType })) {
      const [nameBytes, textBytes] = [this.#headerName(name), Buffer.from(text)];
      map.set(nameBytes, textBytes);
      bytes += nameBytes.length + textBytes.length + headerOverheadBytes;
    }
    const keyBytes = key === null ? undefined : Buffer.from(key);
    const partition = keyBytes === undefined ? keyless : partitionOf(keyBytes, this.#partitions);
    const record = { topic: this.#settings.topic, partition, value, headers: map, ...(keyBytes && { key: keyBytes }) };
    return { record, bytes: bytes + (keyBytes?.length ?? 0), call, index };
  }

  /** The names are few and come with each message. What a producer made up for one message is not kept for good. */
  #headerName(name: string): Buffer {
    const known = this.#headerNames.get(name);
    if (known !== undefined) return known;
    const bytes = Buffer.from(name);
    if (this.#headerNames.size < 200) this.#headerNames.set(name, bytes);
    return bytes;
  }

  /** What is not on its way is not sent; what is on its way alone is not waited for. */
  #giveUp(call: Call): void {
    call.settleRest(this.#unavailable("the call was given up"));
    const { calls, giveUp } = this.#flight ?? {};
    if (calls !== undefined && [...calls].every(({ ended }) => ended)) giveUp?.();
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let batch = this.#take(); batch.length > 0; batch = this.#take()) {
        await this.#produce(batch).catch((error: unknown) => this.#settle(batch, error));
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** The next request: in the order of the queue, for each partition at most what one batch may have. One message that is larger goes alone. */
  #take(): readonly Entry[] {
    const taken: Entry[] = [];
    const left: Entry[] = [];
    const bytesOf = new Map<number, number>();
    let total = 0;
    for (const entry of this.#queue) {
      if (entry.call.ended) continue;
      const { partition } = entry.record;
      const bytes = (bytesOf.get(partition) ?? 0) + entry.bytes;
      const fits = bytes === entry.bytes || bytes <= this.#batchBytes;
      if (fits && total + entry.bytes <= Math.max(requestBytes, entry.bytes)) {
        taken.push(entry);
        total += entry.bytes;
        bytesOf.set(partition, bytes);
      } else {
        left.push(entry);
        // Nothing overtakes what has to wait.
        bytesOf.set(partition, Number.POSITIVE_INFINITY);
      }
    }
    this.#queue = left;
    return taken;
  }

  async #produce(batch: readonly Entry[]): Promise<void> {
    const calls = new Set(batch.map(({ call }) => call));
    const producer = this.#producerNow();
    // A newer client repeats a request that got no answer, and waits for as long again each time.
    let limit: NodeJS.Timeout | undefined;
    const gaveUp = new Promise<"gave up">((resolve) => {
      this.#flight = { calls, giveUp: () => resolve("gave up") };
      limit = setTimeout(() => resolve("gave up"), this.#settings.timeoutMs + repetitionsMs);
    });
    const sending = producer.send({ messages: batch.map(({ record }) => record) }).then(
      () => undefined,
      (error: unknown) => error ?? new Error("an unknown error"),
    );
    const error = await Promise.race([sending, gaveUp]);
    clearTimeout(limit);
    this.#flight = undefined;
    if (error === undefined) {
      for (const { call, index } of batch) call.settle(index, { kind: "acknowledged" });
      this.#readPartitions(producer);
      return;
    }
    this.#retire();
    if (error !== "gave up") this.#settle(batch, error);
    else for (const { call, index } of batch) call.settle(index, this.#unavailable("it did not answer in time"));
  }

  /** The broker takes or leaves the batch of each partition as a whole, and says so of each partition. */
  #settle(batch: readonly Entry[], error: unknown): void {
    const codes = codesIn(error);
    const words = said("Kafka did not acknowledge it", this.#settings, error);
    const lost: Sent = { kind: "unavailable", error: words };
    // Not one answer about a partition: the connection is gone, and with it the turn of everything else.
    if (codes.size === 0) {
      this.#endAll(lost, batch);
      return;
    }
    const byPartition = grouped(batch);
    const again: Entry[] = [];
    for (const [partition, entries] of byPartition) {
      const code = codes.get(partition);
      const verdict: Verdict = code === undefined ? lost : verdictOf(code, words);
      if (verdict === "too large" && entries.length > 1) {
        this.#batchBytes = Math.min(this.#batchBytes, Math.floor(sumOf(entries) / 2));
        again.push(...entries);
        continue;
      }
      const sent = verdict === "too large" ? refusedAsTooLarge : verdict;
      for (const { call, index } of entries) call.settle(index, sent);
      if (sent.kind === "unavailable") this.#endPartition(partition, sent);
    }
    this.#queue.unshift(...again);
  }

  /** What waits for a partition does not overtake what it did not take. */
  #endPartition(partition: number, sent: Sent): void {
    for (const { call, index, record } of this.#queue) if (record.partition === partition) call.settle(index, sent);
    this.#queue = this.#queue.filter(({ record }) => record.partition !== partition);
  }

  #endAll(sent: Sent, batch: readonly Entry[] = []): void {
    for (const { call, index } of [...batch, ...this.#queue.splice(0)]) call.settle(index, sent);
    for (const call of this.#flight?.calls ?? []) call.settleRest(sent);
  }

  #producerNow(): KafkaProducer {
    if (this.#producer !== undefined) return this.#producer;
    const producer: KafkaProducer = new this.#library.Producer({
      ...baseOptions(this.#settings, this.#name),
      idempotent: true,
      retries: repetitions,
    });
    producer.on("error", (error: unknown) => this.#onTrouble(said("Kafka", this.#settings, error)));
    this.#producer = producer;
    return producer;
  }

  #retire(): void {
    const old = this.#producer;
    this.#producer = undefined;
    if (old === undefined) return;
    const farewell = closeClient(old).finally(() => this.#farewells.delete(farewell));
    this.#farewells.add(farewell);
  }

  #readPartitions(producer: KafkaProducer): void {
    const count = producer.currentMetadata?.topics.get(this.#settings.topic)?.partitionsCount;
    if (count !== undefined && count > 0) this.#partitions = count;
  }

  #unavailable(why: string): Sent {
    return { kind: "unavailable", error: new Error(`Kafka (${this.#settings.where}) did not acknowledge it: ${why}`) };
  }
}

const refusedAsTooLarge: Sent = {
  kind: "refused",
  reason:
    "Kafka refuses it: it is larger than max.message.bytes of the topic, or message.max.bytes of the broker, allows.",
};

/** The code of each partition that the broker answered for, over all servers and attempts. What was taken once stays taken. */
function codesIn(error: unknown): ReadonlyMap<number, number> {
  const codes = new Map<number, number>();
  findIn(error, (one) => {
    for (const topic of listOf(propertyOf(one, "response"), "responses")) {
      for (const answer of listOf(topic, "partitionResponses")) {
        const [index, code] = [propertyOf(answer, "index"), propertyOf(answer, "errorCode")];
        if (typeof index === "number" && typeof code === "number" && codes.get(index) !== 0) codes.set(index, code);
      }
    }
    for (const written of listOf(propertyOf(one, "produced"), "offsets")) {
      const partition = propertyOf(written, "partition");
      if (typeof partition === "number") codes.set(partition, 0);
    }
    return false;
  });
  return codes;
}

function listOf(value: unknown, name: string): readonly unknown[] {
  const list = propertyOf(value, name);
  return Array.isArray(list) ? list : [];
}

function sumOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0);
}

function grouped(batch: readonly Entry[]): Map<number, Entry[]> {
  const groups = new Map<number, Entry[]>();
  for (const entry of batch) {
    const group = groups.get(entry.record.partition);
    if (group === undefined) groups.set(entry.record.partition, [entry]);
    else group.push(entry);
  }
  return groups;
}
