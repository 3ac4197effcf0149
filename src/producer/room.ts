/**
 * Room in queues with a `backlogLimit`: asked for before a command is written, in pieces, so that few messages cost a statement.
 *
 * Which queues have a limit is read when a contract is first said and every few seconds from then on, beside the messages: a queue without
 * one costs nothing. What a process was granted it uses within a second, or loses. What was said without asking, or is not known to
 * be written, is told with the next question, so that figures err on the side of a fuller queue, until it is counted again.
 */
import { AsyncResource } from "node:async_hooks";
import type { AnyContract } from "../contracts/contract.js";
import type { Executor } from "../core/database.js";
import { BacklogFullError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { backlogLimits, checkBacklog, type Grant, grantBacklog } from "../store/backlog-limit.js";
import type { Catalog } from "./catalog.js";

export interface RoomOptions {
  readonly side: Executor;
  readonly catalog: Catalog;
  /** On one connection for everybody, a question from inside a transaction goes through that transaction. */
  readonly single: boolean;
  readonly onError: (error: unknown) => void;
}

/** The transaction that will write. */
interface Inside {
  readonly tx: Executor;
  readonly foreign?: true;
}

/** What this process knows of one limited queue. */
interface Known {
  readonly queue: string;
  whenFull: "reject" | "wait";
  waitMs: number;
  /** Messages that may be said without asking, and until when. */
  granted: number;
  until: number;
  /** Messages that were said without leave and not told yet. */
  spent: number;
  /** The last refusal, and when it was given. */
  full: Exclude<Grant, null | { readonly granted: number }> | undefined;
  askedAt: number;
  /** The question under way: one at a time, so that many messages share an answer. */
  question: Promise<Grant> | undefined;
}

/** How long the list of limited queues is used before it is read again. */
const listMs = 5_000;
/** How long a grant, and a refusal, is good for. */
const grantMs = 1_000;
const refusalMs = 100;
/** The longest pause between two questions of one that waits. */
const longestPauseMs = 1_000;

export class Room {
  readonly #options: RoomOptions;
  /** What is asked beside the caller is not asked from inside their transaction: on the only connection that would be refused, as if it were awaited there. */
  readonly #outside = new AsyncResource("PosthornRoom");
  readonly #known = new Map<number, Known>();
  #list: Promise<void> | undefined;
  #listedAt = Number.NEGATIVE_INFINITY;
  /** Whether any queue has a limit. */
  #any = false;
  #closed = false;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /**
   * Leave for `count` messages of a command to be written now. Undefined when there is nothing to wait for, which is always so without limits.
   * `inside`: the transaction that will write; then a full queue is never waited for, because the caller's locks would be held meanwhile.
   * A foreign one, which somebody else began, may be of another database: nothing is learned from it.
   *
   * Errors: `BacklogFullError`.
   */
  admit(contract: AnyContract, count: number, inside?: Inside): Promise<void> | undefined {
    if (contract.kind !== "command" || count === 0) return undefined;
    const fresh = performance.now() - this.#listedAt < listMs;
    if (fresh && !this.#any) return undefined;
    const known = fresh ? this.#of(contract) : undefined;
    if (fresh && known === undefined && this.#options.catalog.known(contract, false) !== undefined) return undefined;
    if (known !== undefined && use(known, count)) return undefined;
    return this.#admit(contract, count, inside);
  }

  /** For what handlers say: refused by what this process knows already; never later, when it would be lost. Asks for the next one beside it. */
  note(contract: AnyContract, count: number): void {
    if (contract.kind !== "command") return;
    if (performance.now() - this.#listedAt >= listMs) this.#refreshBeside();
    if (!this.#any) return;
    const known = this.#of(contract);
    if (known === undefined) return;
    const now = performance.now();
    if (known.full !== undefined && now - known.askedAt < grantMs) {
      if (now - known.askedAt >= refusalMs) this.#ask(contract, known);
      throw refusal(known, known.full);
    }
    if (use(known, count)) return;
    known.spent += count;
    this.#ask(contract, known);
  }

  /** Messages beyond those that were asked for were said as well. */
  add(contract: AnyContract, count: number): void {
    const known = this.#any && contract.kind === "command" ? this.#of(contract) : undefined;
    if (known !== undefined && !use(known, count)) known.spent += count;
  }

  #of(contract: AnyContract): Known | undefined {
    const ids = this.#options.catalog.known(contract, false);
    return ids && this.#known.get(ids.channel);
  }

  async #admit(contract: AnyContract, count: number, inside?: Inside): Promise<void> {
    const { catalog, single } = this.#options;
    const within = single ? inside?.tx : undefined;
    if (within !== undefined && inside?.foreign) this.#refreshBeside();
    else await this.#listed(within);
    if (!this.#any) return;
    const { ids } = await catalog.ids([contract], false, inside?.tx);
    const channel = ids.get(contract)?.channel;
    const known = channel === undefined ? undefined : this.#known.get(channel);
    if (channel === undefined || known === undefined || use(known, count)) return;
    if (within !== undefined) return checkBacklog(within, channel, count);
    await this.#askUntil(channel, known, count, inside !== undefined || known.whenFull === "reject" ? 0 : known.waitMs);
  }

  async #askUntil(channel: number, known: Known, count: number, waitMs: number): Promise<void> {
    const until = performance.now() + waitMs;
    for (let pause = refusalMs; ; pause = Math.min(longestPauseMs, pause * 2)) {
      const grant = await this.#question(channel, known, count);
      if (grant === null || "granted" in grant) return;
      const left = until - performance.now();
      if (left <= 0) throw refusal(known, grant);
      // Unevenly, so that many that wait do not ask at once.
      const ms = Math.min(pause, grant.retryAfterMs, left) * (0.5 + Math.random() / 2);
      await new Promise((resolve) => setTimeout(resolve, Math.max(1, ms)));
    }
  }

  /** The answer for `count` messages, from stock where it is enough. */
  async #question(channel: number, known: Known, count: number): Promise<Grant> {
    while (known.question !== undefined) await known.question.catch(() => undefined);
    if (use(known, count)) return { granted: count };
    // A refusal is believed for a moment: many that are refused cost one question.
    if (known.full !== undefined && performance.now() - known.askedAt < refusalMs) return known.full;
    known.question = this.#put(channel, known, count);
    try {
      return await known.question;
    } finally {
      known.question = undefined;
    }
  }

  /** Asks, and takes what is granted beyond the question into stock. */
  async #put(channel: number, known: Known, count: number): Promise<Grant> {
    const { spent } = known;
    known.spent = 0;
    try {
      const grant = await grantBacklog(this.#options.side, channel, count, spent);
      known.askedAt = performance.now();
      known.full = grant !== null && !("granted" in grant) ? grant : undefined;
      if (grant !== null && "granted" in grant) {
        known.granted = (performance.now() < known.until ? known.granted : 0) + grant.granted - count;
        known.until = known.askedAt + grantMs;
      }
      return grant;
    } catch (error) {
      known.spent += spent;
      throw error;
    }
  }

  /** Asks beside the caller, for the next one. */
  #ask(contract: AnyContract, known: Known): void {
    const channel = this.#options.catalog.known(contract, false)?.channel;
    if (channel !== undefined && known.question === undefined) this.#beside(() => this.#question(channel, known, 0));
  }

  #beside(work: () => Promise<unknown>): void {
    this.#outside.runInAsyncScope(work).catch((error) => {
      if (!this.#closed) this.#options.onError(error);
    });
  }

  /** What is asked beside others may fail from here on. */
  close(): void {
    this.#closed = true;
  }

  /** The list, awaited the first time only; later ones are read beside the messages. */
  async #listed(within?: Executor): Promise<void> {
    if (performance.now() - this.#listedAt < listMs) return;
    if (this.#listedAt === Number.NEGATIVE_INFINITY) await this.#refresh(within);
    else if (within !== undefined) await this.#refresh(within);
    else this.#refreshBeside();
  }

  #refreshBeside(): void {
    if (this.#list === undefined && performance.now() - this.#listedAt >= listMs) this.#beside(() => this.#refresh());
  }

  #refresh(within?: Executor): Promise<void> {
    // One that goes through a transaction may not outlive it.
    if (within !== undefined) return this.#read(within);
    this.#list ??= this.#read(this.#options.side).finally(() => {
      this.#list = undefined;
    });
    return this.#list;
  }

  async #read(executor: Executor): Promise<void> {
    const limited = await backlogLimits(executor);
    this.#listedAt = performance.now();
    this.#any = limited.length > 0;
    for (const channel of this.#known.keys()) {
      if (!limited.some(([one]) => one === channel)) this.#known.delete(channel);
    }
    for (const [channel, queue, whenFull, waitMs] of limited) {
      const none = { granted: 0, until: 0, spent: 0, full: undefined, askedAt: 0, question: undefined };
      const known = this.#known.get(channel) ?? { ...none, queue, whenFull, waitMs };
      known.whenFull = whenFull;
      known.waitMs = waitMs;
      this.#known.set(channel, known);
    }
  }
}

/** Whether what was granted is enough; then it is used. */
function use(known: Known, count: number): boolean {
  if (known.granted < count || performance.now() >= known.until) return false;
  known.granted -= count;
  return true;
}

function refusal({ queue }: Known, { backlog, limit, retryAfterMs }: NonNullable<Known["full"]>): BacklogFullError {
  const message = `The queue "${queue.slice(0, limits.nameLength)}" is full: about ${backlog} messages wait, and its backlogLimit is ${limit}. Nothing was sent. Try again in ${retryAfterMs} ms, or do without.`;
  return new BacklogFullError("PH_BACKLOG_FULL", message, { queue, backlog, limit, retryAfterMs });
}
