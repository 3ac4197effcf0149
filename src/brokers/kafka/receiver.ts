/**
 * The way in from Kafka: a member of a consumer group, and fetches on connections of their own, since a fetch that waits for messages would hold up
 * whatever follows it on its connection.
 *
 * It keeps positions itself and commits only what was acknowledged, up to the first message that was not. When the group is divided anew, a partition that
 * stays is read on where it was; one that goes is forgotten, and what was handed out of it comes again to its next reader.
 */
import { setTimeout as wait } from "node:timers/promises";
import { ConfigurationError } from "../../core/errors.js";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { untilAborted } from "../until-aborted.js";
import {
  baseOptions,
  checkTopic,
  closeClient,
  type KafkaConsumer,
  type Library,
  loadKafka,
  said,
  spoken,
} from "./client.js";
import { findIn, propertyOf } from "./errors.js";
import { Held, isHandle } from "./held.js";
import type { Settings } from "./options.js";
import { readInto } from "./records.js";

/** How long a fetch waits at the broker for a first message. */
const fetchWaitMs = 1_000;
const fetchBytes = 8_000_000;
const partitionBytes = 1_000_000;
/** Above it nothing is fetched until some of it has been handed out. */
const waitingBytes = 16_000_000;
const waitingMessages = 5_000;
/** What passes by itself, such as a new leader or a coordinator that is still being chosen, is asked for again so often. */
const patienceMs = 200;
const patience = 50;
const earliest = -2n;
const latest = -1n;
const readCommitted = 1;
/** Codes of the protocol. */
const outOfRange = 1;
const passing: ReadonlySet<unknown> = new Set([3, 5, 6, 9, 14, 15, 16, 74, 75, 100]);

/** Errors: as `openReceiver` of a broker. */
export async function openKafkaReceiver(settings: Settings, options: OpenOptions): Promise<Receiver> {
  const { group } = settings;
  if (group === undefined) {
    const message = `kafka.group is needed to receive from ${settings.where}. Name the group that the position is kept for: no other service may use it.`;
    throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "kafka.group" });
  }
  const receiver = new KafkaReceiver({ ...settings, group }, options, await loadKafka());
  try {
    await receiver.open(options.signal);
  } catch (error) {
    await receiver.close();
    throw error;
  }
  return receiver;
}

class KafkaReceiver implements Receiver {
  readonly #settings: Settings;
  readonly #onTrouble: (error: unknown) => void;
  readonly #onNotice: (error: unknown) => void;
  /** Joins the group, tells that it lives, commits. */
  readonly #member: KafkaConsumer;
  /** Fetches. */
  readonly #reader: KafkaConsumer;
  readonly #membership: { sessionTimeout: number; rebalanceTimeout: number; heartbeatInterval: number };
  #held = new Map<number, Held>();
  /** The topic that is read: one that was made anew under its name has another. */
  #topicId: string | undefined;
  readonly #fetching = new Set<number>();
  #filling = false;
  #passed = 0;
  #turn = 0;
  /** The group was divided anew, and this was not looked at yet. */
  #divided = false;
  #failure: { readonly error: unknown } | undefined;
  #closed = false;
  readonly #arrival = new Arrival();

  constructor(
    settings: Settings & { readonly group: string },
    { name, onTrouble, onNotice = onTrouble }: OpenOptions,
    library: Library,
  ) {
    const { group, sessionTimeoutMs, timeoutMs } = settings;
    this.#settings = settings;
    this.#onTrouble = onTrouble;
    this.#onNotice = onNotice;
    this.#membership = {
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: sessionTimeoutMs,
      heartbeatInterval: Math.min(3_000, Math.floor(sessionTimeoutMs / 5)),
    };
    const base = { ...baseOptions(settings, name), groupId: group };
    // Whoever joins waits for all others of the group, and for those that have died.
    const requestTimeout = Math.max(timeoutMs, sessionTimeoutMs + 5_000);
    this.#member = new library.Consumer({ ...base, ...this.#membership, requestTimeout });
    this.#reader = new library.Consumer({ ...base });
    for (const consumer of [this.#member, this.#reader]) {
      consumer.topics.track(settings.topic);
      consumer.on("error", (error: unknown) => this.#fail(error));
    }
    this.#member.on("consumer:heartbeat:error", ({ error }) => this.#fail(error));
    this.#member.on("consumer:group:join", () => {
      this.#divided = true;
      this.#arrival.tell();
    });
  }

  async open(signal: AbortSignal): Promise<void> {
    await checkTopic(this.#reader, this.#settings, signal);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await untilAborted(this.#join(), signal);
        return;
      } catch (error) {
        const passes = findIn(error, (one) => passing.has(propertyOf(one, "apiCode")));
        if (!passes || attempt === patience) throw said("Kafka does not let it join its group", this.#settings, error);
        await untilAborted(wait(patienceMs), signal);
      }
    }
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    const until = performance.now() + waitMs;
    while (!signal.aborted) {
      this.#check();
      if (this.#divided) await this.#adopt();
      const given = this.#give(max);
      void this.#fill();
      const left = until - performance.now();
      if (given.length > 0 || left <= 0) return given;
      await this.#arrival.wait(left, signal);
    }
    return [];
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    if (messages.length === 0) return;
    this.#check();
    if (this.#divided) await this.#adopt();
    const offsets = new Map<Held, Set<bigint>>();
    for (const { handle } of messages) {
      if (!isHandle(handle)) continue;
      const known = offsets.get(handle.held);
      if (known === undefined) offsets.set(handle.held, new Set([handle.offset]));
      else known.add(handle.offset);
    }
    for (const [held, acknowledged] of offsets) held.acknowledge(acknowledged);
    await this.#commit();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#arrival.tell();
    await Promise.all([closeClient(this.#member), closeClient(this.#reader)]);
  }

  async #join(): Promise<void> {
    await this.#member.joinGroup({ ...this.#membership });
    await this.#adopt();
  }

  /**
   * Looks at what the group has given to this member.
   *
   * A partition whose position in the group is where this member had left it was nobody else's meanwhile, or nobody got further: it is read on. Any other
   * begins where the group is. What is given to somebody else is dropped: a position of it that is committed now could only set the other back.
   */
  async #adopt(): Promise<void> {
    this.#divided = false;
    const { topic } = this.#settings;
    const partitions = this.#member.assignments?.find((one) => one.topic === topic)?.partitions ?? [];
    const positions = partitions.length === 0 ? new Map<number, bigint>() : await this.#positions(partitions);
    const held = new Map<number, Held>();
    for (const [partition, position] of positions) {
      const known = this.#held.get(partition);
      held.set(partition, known?.committed === position ? known : new Held(partition, position));
    }
    this.#held = held;
    this.#arrival.tell();
  }

  async #positions(partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    const { topic, fromBeginning } = this.#settings;
    const committed = await this.#member.listCommittedOffsets({ topics: [{ topic, partitions: [...partitions] }] });
    const positions = new Map<number, bigint>();
    const unknown: number[] = [];
    for (const partition of partitions) {
      const position = committed.get(topic)?.[partition];
      if (position === undefined || position < 0n) unknown.push(partition);
      else positions.set(partition, position);
    }
    if (unknown.length === 0) return positions;
    const found = await this.#offsets(unknown, fromBeginning ? earliest : latest);
    // The end is where it is now: not where it will be when the first message has been acknowledged, with a crash in between.
    if (!fromBeginning)
      await this.#member.commit({ offsets: [...found].map(([partition, offset]) => this.#at(partition, offset)) });
    return new Map([...positions, ...found]);
  }

  async #offsets(partitions: readonly number[], timestamp: bigint): Promise<ReadonlyMap<number, bigint>> {
    const { topic } = this.#settings;
    const listed = await this.#reader.listOffsets({
      topics: [topic],
      partitions: { [topic]: [...partitions] },
      timestamp,
    });
    return new Map(partitions.map((partition) => [partition, listed.get(topic)?.[partition] ?? 0n]));
  }

  #at(partition: number, offset: bigint) {
    return { topic: this.#settings.topic, partition, offset, leaderEpoch: -1 };
  }

  async #commit(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const done = [...this.#held.values()].flatMap((held) => {
        const { commitable } = held;
        return commitable === undefined ? [] : [{ held, offset: commitable }];
      });
      if (done.length === 0) return;
      try {
        await this.#member.commit({ offsets: done.map(({ held, offset }) => this.#at(held.partition, offset)) });
        for (const { held, offset } of done) held.committed = offset;
        return;
      } catch (error) {
        const divides = findIn(error, (one) => propertyOf(one, "needsRejoin") === true);
        if (!divides || attempt === 3 || this.#closed)
          throw said("Kafka did not take the position", this.#settings, error);
        await spoken("Kafka does not let it join its group again", this.#settings, this.#join());
      }
    }
  }

  /** Round and round the partitions, so that a full one does not keep others waiting. */
  #give(max: number): readonly Incoming[] {
    const filled = [...this.#held.values()].filter(({ waiting }) => waiting > 0);
    const given: Incoming[] = [];
    this.#turn += 1;
    for (let i = 0; i < filled.length && given.length < max; i += 1) {
      const held = filled[(this.#turn + i) % filled.length];
      if (held !== undefined) given.push(...held.give(max - given.length));
    }
    return given;
  }

  /** Has a fetch on its way to each leader, as long as not too much waits. */
  async #fill(): Promise<void> {
    if (this.#filling) return;
    this.#filling = true;
    try {
      const { topic } = this.#settings;
      const known = (await this.#reader.metadata({ topics: [topic] })).topics.get(topic);
      if (known !== undefined) await this.#look(known.id);
      const wanted = new Map<number, Held[]>();
      for (const held of this.#isFull() || known === undefined ? [] : this.#held.values()) {
        const leader = known?.partitions[held.partition]?.leader;
        if (leader === undefined || this.#fetching.has(leader)) continue;
        const others = wanted.get(leader);
        if (others === undefined) wanted.set(leader, [held]);
        else others.push(held);
      }
      for (const [leader, helds] of wanted) void this.#fetch(leader, known?.id ?? "", helds);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#filling = false;
    }
  }

  #isFull(): boolean {
    let [messages, bytes] = [0, 0];
    for (const held of this.#held.values()) {
      messages += held.waiting;
      bytes += held.bytes;
    }
    return (
      messages > waitingMessages || bytes > waitingBytes || this.#closed || this.#failure !== undefined || this.#divided
    );
  }

  async #fetch(node: number, topicId: string, helds: readonly Held[]): Promise<void> {
    this.#fetching.add(node);
    const asked = new Map(helds.map((held) => [held, held.position]));
    try {
      const fetched = await this.#reader.fetch({
        node,
        topics: [{ topicId, partitions: helds.map(request) }],
        maxWaitTime: Math.min(fetchWaitMs, Math.floor(this.#settings.timeoutMs / 2)),
        minBytes: 1,
        maxBytes: fetchBytes,
        isolationLevel: readCommitted,
      });
      this.#passed = 0;
      for (const answer of fetched.responses.flatMap(({ partitions }) => partitions)) {
        const held = this.#held.get(answer.partitionIndex);
        // Another Held, or one that went on meanwhile, did not ask for this.
        if (held === undefined || asked.get(held) !== held.position) continue;
        readInto(held, { topic: this.#settings.topic, topicId }, answer);
      }
    } catch (error) {
      await this.#fetchFailed(error, helds).catch((reason: unknown) => this.#fail(reason));
    }
    this.#fetching.delete(node);
    this.#arrival.tell();
    void this.#fill();
  }

  async #fetchFailed(error: unknown, helds: readonly Held[]): Promise<void> {
    if (this.#closed) return;
    if (findIn(error, (one) => propertyOf(one, "apiCode") === outOfRange)) return this.#beginAgain(helds);
    const passes = findIn(error, (one) => passing.has(propertyOf(one, "apiCode")));
    this.#passed += 1;
    if (!passes || this.#passed > patience) throw error;
    this.#reader.clearMetadata();
    await wait(patienceMs);
  }

  /** The broker has thrown away what was to be read next, or lost its end: goes on with the oldest that there is, so that nothing else is missed. */
  async #beginAgain(helds: readonly Held[]): Promise<void> {
    const partitions = helds.map(({ partition }) => partition);
    const first = await this.#offsets(partitions, earliest);
    const end = await this.#offsets(partitions, latest);
    for (const held of helds) {
      const [from, to] = [first.get(held.partition) ?? 0n, end.get(held.partition) ?? 0n];
      if (this.#held.get(held.partition) !== held || (held.position >= from && held.position <= to)) continue;
      this.#held.set(held.partition, new Held(held.partition, from));
      const what = `partition ${held.partition} no longer has offset ${held.position}; it is read on from ${from}`;
      this.#onNotice(new Error(`Kafka (${this.#settings.where}): ${what}`));
    }
  }

  /** All that is in a topic that was made anew is new, and where the last one was read to says nothing about it. */
  async #look(topicId: string): Promise<void> {
    const before = this.#topicId;
    this.#topicId = topicId;
    if (before === undefined || before === topicId || this.#held.size === 0) return;
    const first = await this.#offsets([...this.#held.keys()], earliest);
    this.#held = new Map([...first].map(([partition, offset]) => [partition, new Held(partition, offset)]));
    const what = "its topic was deleted and made anew; it is read from its beginning";
    this.#onNotice(new Error(`Kafka (${this.#settings.where}): ${what}`));
  }

  #check(): void {
    if (this.#closed) throw new Error(`Kafka (${this.#settings.where}): the receiver is closed`);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #fail(error: unknown): void {
    if (this.#closed || this.#failure !== undefined) return;
    this.#failure = { error: said("Kafka is lost", this.#settings, error) };
    this.#onTrouble(this.#failure.error);
    this.#arrival.tell();
  }
}

function request({ partition, position }: Held) {
  return {
    partition,
    fetchOffset: position,
    currentLeaderEpoch: -1,
    lastFetchedEpoch: -1,
    partitionMaxBytes: partitionBytes,
  };
}
