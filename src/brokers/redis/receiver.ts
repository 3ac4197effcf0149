/**
 * The way in from a stream: a consumer of a group. It reads on one connection, which waits, and acknowledges on another.
 *
 * All receivers of a group are one consumer to Redis. So the next one is given at once, and first, what the last one had been given and never acknowledged,
 * and no consumer with messages of its own is left behind. Only one works at a time: an intake runs in one process.
 */

import { ConfigurationError } from "../../core/errors.js";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { atMost } from "../until-aborted.js";
import { incomingOf } from "./entry.js";
import { codeOf, said } from "./errors.js";
import { countsIn, Gap } from "./gap.js";
import { checkStream, Link } from "./link.js";
import type { Settings } from "./options.js";
import { type Answer, claimedIn, readIn } from "./replies.js";

const consumer = "posthorn";
/** How long one question waits at Redis for a first message. */
const blockMs = 1_000;
const mostAtOnce = 1_000;
const acknowledgedAtOnce = 1_000;
const farewellMs = 2_000;
/** How often it is looked for what was removed unread: the answer holds two whole messages. */
const lookForGapMs = 5_000;

/** Errors: as `openReceiver` of a broker. */
export async function openRedisReceiver(settings: Settings, options: OpenOptions): Promise<Receiver> {
  const { group } = settings;
  if (group === undefined) {
    const message = `redis.group is needed to receive from ${settings.where}. Name the group that the position is kept for: no other service may use it.`;
    throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "redis.group" });
  }
  const receiver = new RedisReceiver(settings, group, options);
  try {
    await receiver.open(options);
  } catch (error) {
    await receiver.close();
    throw error;
  }
  return receiver;
}

class RedisReceiver implements Receiver {
  readonly #settings: Settings;
  readonly #group: string;
  readonly #onTrouble: (error: unknown) => void;
  readonly #onNotice: (error: unknown) => void;
  #reader: Link | undefined;
  #acknowledger: Link | undefined;
  #readerId = 0;
  #waiting: Incoming[] = [];
  /** What waits, and what was handed out and is not acknowledged. */
  readonly #known = new Set<string>();
  /** From where on what was given before is read; undefined: it was read. */
  #before: string | undefined = "0";
  /** When it is looked at once more: a question of the last receiver may have been answered after its end. */
  #lookAgainAt = 0;
  #claimAt = 0;
  #claimFrom = "0-0";
  #atOnce = mostAtOnce;
  /** Undefined where Redis does not count, or does not say. */
  #gap: Gap | undefined;
  #lookForGapAt = 0;
  #reading: Promise<void> | undefined;
  /**
   * What was acknowledged while it was asked what had been given before; undefined while that is not asked. Redis may have put such a message into its answer
   * and taken the acknowledgement only then: it must be known until the answer is here, or it would be handed out a second time.
   */
  #acknowledgedMeanwhile: string[] | undefined;
  #failure: { readonly error: unknown } | undefined;
  #closed = false;
  readonly #arrival = new Arrival();

  constructor(settings: Settings, group: string, { onTrouble, onNotice = onTrouble }: OpenOptions) {
    this.#settings = settings;
    this.#group = group;
    this.#onTrouble = onTrouble;
    this.#onNotice = onNotice;
  }

  async open({ name, signal, again = false }: OpenOptions): Promise<void> {
    const lost = (error: unknown) => this.#fail(error);
    this.#acknowledger = await Link.open(this.#settings, name, signal, lost);
    await checkStream(this.#acknowledger, this.#settings);
    if (again) await this.#makeGroupAgain();
    else await this.#makeGroup(this.#settings.fromBeginning ? "0" : "$");
    this.#reader = await Link.open(this.#settings, name, signal, lost);
    this.#readerId = await this.#reader.run((redis) => redis.client("ID"));
    await this.#beginCounting(this.#reader);
    this.#lookAgainAt = performance.now() + 2 * blockMs;
    this.#claimAt = performance.now() + this.#settings.idleMs;
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    const until = performance.now() + waitMs;
    this.#atOnce = Math.min(max, mostAtOnce);
    while (!signal.aborted) {
      this.#check();
      const given = this.#waiting.splice(0, max);
      this.#fill();
      const left = until - performance.now();
      if (given.length > 0 || left <= 0) return given;
      await this.#arrival.wait(left, signal);
    }
    return [];
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    this.#check();
    const { stream } = this.#settings;
    const ids = messages.flatMap(({ handle }) => (typeof handle === "string" ? [handle] : []));
    for (let i = 0; i < ids.length; i += acknowledgedAtOnce) {
      const some = ids.slice(i, i + acknowledgedAtOnce);
      try {
        await this.#acknowledger?.run((redis) => redis.xack(stream, this.#group, ...some));
      } catch (error) {
        throw said("Redis did not take the acknowledgement", this.#settings, error);
      }
      if (this.#acknowledgedMeanwhile === undefined) this.#forget(some);
      else this.#acknowledgedMeanwhile.push(...some);
    }
  }

  /** A question that waits is taken back: what it would still be answered with would be given to somebody who has gone. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#arrival.tell();
    if (this.#reading !== undefined && this.#failure === undefined) {
      const unblocked = this.#acknowledger?.run((redis) => redis.client("UNBLOCK", this.#readerId));
      await atMost(farewellMs, Promise.all([unblocked, this.#reading]));
    }
    this.#reader?.close();
    this.#acknowledger?.close();
  }

  /** The stream was removed, and its group with it: all that is in a new one is new. */
  async #makeGroupAgain(): Promise<void> {
    if (!(await this.#makeGroup("0"))) return;
    const { where } = this.#settings;
    const what = "had lost the stream or its group; it was made again, and all that is in the stream comes in";
    this.#onNotice(new Error(`Redis (${where}) ${what}.`));
  }

  /** Whether it was not there. */
  async #makeGroup(from: string): Promise<boolean> {
    const { stream } = this.#settings;
    try {
      await this.#acknowledger?.run((redis) => redis.xgroup("CREATE", stream, this.#group, from, "MKSTREAM"));
      return true;
    } catch (error) {
      if (codeOf(error) !== "BUSYGROUP") throw said("Redis does not make the group", this.#settings, error);
      return false;
    }
  }

  /** Has a question on its way while nothing waits to be handed out. */
  #fill(): void {
    if (this.#reading !== undefined || this.#waiting.length > 0 || this.#closed || this.#failure !== undefined) return;
    this.#reading = this.#read()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#reading = undefined;
        this.#arrival.tell();
      });
  }

  async #read(): Promise<void> {
    const link = this.#reader;
    if (link === undefined) return;
    try {
      const now = performance.now();
      if (this.#lookAgainAt < now) {
        this.#lookAgainAt = Number.POSITIVE_INFINITY;
        this.#before = "0";
        // What the last receiver was given meanwhile is no gap.
        await this.#beginCounting(link);
      }
      const before = this.#before;
      if (before !== undefined) await this.#lookBack(() => this.#readBefore(link, before));
      else if (this.#claimAt < now) await this.#lookBack(() => this.#claim(link));
      else await this.#readNew(link);
    } catch (error) {
      const code = codeOf(error);
      if (code !== "NOGROUP" && code !== "UNBLOCKED") throw error;
      if (this.#closed) return;
      await this.#makeGroupAgain();
      await this.#beginCounting(link);
    }
  }

  async #lookBack(ask: () => Promise<void>): Promise<void> {
    this.#acknowledgedMeanwhile = [];
    try {
      await ask();
    } finally {
      this.#forget(this.#acknowledgedMeanwhile);
      this.#acknowledgedMeanwhile = undefined;
    }
  }

  #forget(ids: readonly string[]): void {
    for (const id of ids) this.#known.delete(id);
  }

  async #readBefore(link: Link, from: string): Promise<void> {
    const { stream } = this.#settings;
    const answer = await link.run((redis) =>
      redis.callBuffer("XREADGROUP", "GROUP", this.#group, consumer, "COUNT", this.#atOnce, "STREAMS", stream, from),
    );
    const entries = readIn(answer);
    this.#before = entries.at(-1)?.id;
    await this.#add(entries);
  }

  async #readNew(link: Link): Promise<void> {
    const { stream, timeoutMs } = this.#settings;
    if (this.#lookForGapAt < performance.now()) await this.#lookForGap(link);
    const options = ["COUNT", this.#atOnce, "BLOCK", blockMs, "STREAMS", stream, ">"];
    const answer = await link.within(blockMs + timeoutMs, (redis) =>
      redis.callBuffer("XREADGROUP", "GROUP", this.#group, consumer, ...options),
    );
    const entries = readIn(answer);
    this.#gap?.read(entries.map(({ id }) => id));
    await this.#add(entries);
  }

  async #beginCounting(link: Link): Promise<void> {
    const { stream } = this.#settings;
    this.#lookForGapAt = 0;
    this.#gap = Gap.of(this.#group, await allowed(link.run((redis) => redis.callBuffer("XINFO", "GROUPS", stream))));
  }

  /** Between two questions for what is new, so that nothing is given meanwhile. */
  async #lookForGap(link: Link): Promise<void> {
    const { stream, where } = this.#settings;
    const gap = this.#gap;
    if (gap === undefined) return;
    this.#lookForGapAt = performance.now() + lookForGapMs;
    const counts = countsIn(await allowed(link.run((redis) => redis.callBuffer("XINFO", "STREAM", stream))));
    const missing = counts === undefined ? 0 : gap.look(counts);
    if (missing === 0) return;
    const what = `${missing} messages were removed from the stream before the group was given them; what is there comes next`;
    this.#onNotice(new Error(`Redis (${where}): ${what}.`));
    // Some versions do not count over a gap themselves: who opens next would find it once more.
    const counted = ["SETID", stream, this.#group, gap.at, "ENTRIESREAD", gap.given ?? 0];
    await allowed(link.run((redis) => redis.callBuffer("XGROUP", ...counted)));
  }

  /** What was given to somebody and lies there for long: to a consumer of another name, or of this one in a moment in between. */
  async #claim(link: Link): Promise<void> {
    const { stream, idleMs } = this.#settings;
    const options = [idleMs, this.#claimFrom, "COUNT", this.#atOnce];
    const answer = await link.run((redis) => redis.callBuffer("XAUTOCLAIM", stream, this.#group, consumer, ...options));
    const { next, entries } = claimedIn(answer);
    this.#claimFrom = next;
    if (next === "0-0") this.#claimAt = performance.now() + idleMs;
    await this.#add(entries);
  }

  async #add(entries: readonly Answer[]): Promise<void> {
    const { stream, where } = this.#settings;
    const gone: string[] = [];
    for (const { id, fields } of entries) {
      if (this.#known.has(id)) continue;
      if (fields === undefined) gone.push(id);
      else {
        this.#known.add(id);
        this.#waiting.push(incomingOf({ id, fields }, stream));
      }
    }
    if (gone.length === 0) return;
    await this.#acknowledger?.run((redis) => redis.xack(stream, this.#group, ...gone));
    const what = `${gone.length} messages, ${gone[0]} the first, were removed from the stream before they were acknowledged`;
    this.#onNotice(new Error(`Redis (${where}): ${what}.`));
  }

  #check(): void {
    if (this.#closed) throw new Error(`Redis (${this.#settings.where}): the receiver is closed`);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #fail(error: unknown): void {
    if (this.#closed || this.#failure !== undefined) return;
    this.#failure = { error: said("Redis is lost", this.#settings, error) };
    this.#onTrouble(this.#failure.error);
    this.#arrival.tell();
  }
}

/** What nothing but a warning depends on; undefined where the user has no right to it, and where the stream was removed, which the next question tells. */
async function allowed(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    const code = codeOf(error);
    if (code === "NOPERM" || code === "ERR") return undefined;
    throw error;
  }
}
