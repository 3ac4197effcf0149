/** Works in this process until it is stopped: one incarnation after another, with growing pauses while the database is away. */
import { SchemaVersionError, StoppedError } from "../core/errors.js";
import { recovered } from "../core/logger.js";
import { durationInWords } from "../core/words.js";
import { Incarnation, type WorkerOptions } from "./incarnation.js";

const pauseMs = { first: 100, longest: 5_000 } as const;
/** An incarnation that ends sooner than this counts as one that could not begin: what ended it may end the next as well. */
const steadyMs = 10_000;
/** How long handlers may still run on a schema that is not theirs any more. */
const farewellMs = 10_000;

export class Worker {
  readonly #options: WorkerOptions;
  #incarnation: Incarnation | undefined;
  #supervising: Promise<void> = Promise.resolve();
  #begun = false;
  #stopped = false;
  #interrupt: (() => void) | undefined;
  #trouble: unknown;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  /** Returns when it works. Errors: whatever keeps the first incarnation from beginning. */
  async start(): Promise<void> {
    const first = await this.#begin();
    this.#supervising = this.#supervise(first);
  }

  /** Why nothing is worked on at the moment; undefined while it works. */
  get trouble(): unknown {
    return this.#trouble;
  }

  /** Returns at a moment when nothing runs and nothing is due here. */
  async untilIdle(): Promise<void> {
    for (;;) {
      if (this.#stopped) throw new StoppedError("PH_STOPPED", "The instance was stopped while untilIdle() waited.");
      // An error here is the incarnation's to deal with; a new one answers the question.
      if (await this.#incarnation?.isIdle().catch(() => false)) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#options.waker.listen(undefined);
    this.#interrupt?.();
    await this.#incarnation?.stop(graceMs);
    await this.#supervising;
  }

  async #begin(): Promise<Incarnation> {
    const incarnation = await Incarnation.begin(this.#options, this.#begun);
    this.#begun = true;
    this.#incarnation = incarnation;
    this.#trouble = undefined;
    this.#options.waker.listen((channels) => incarnation.wake(channels));
    incarnation.start();
    return incarnation;
  }

  async #supervise(first: Incarnation): Promise<void> {
    let current = first;
    let begun = performance.now();
    // The first time at once: most often one connection was lost. Then with growing pauses.
    let inMs = 0;
    while (!this.#stopped) {
      const reason = await Promise.race([current.ended, this.#interrupted()]);
      if (this.#stopped) return;
      this.#trouble = reason;
      const lostAt = performance.now();
      if (lostAt - begun >= steadyMs) inMs = 0;
      if (reason instanceof SchemaVersionError) {
        this.#options.logger.error("the worker takes no more messages: the schema was migrated by newer code", {
          reason,
        });
        await current.stop(farewellMs);
      } else {
        this.#options.logger.warn("the worker drops what it holds and begins anew", { reason, inMs });
        await current.abandon();
      }
      this.#incarnation = undefined;
      if (inMs > 0) await this.#pause(inMs);
      inMs = Math.min(pauseMs.longest, Math.max(pauseMs.first, inMs * 2));
      const next = await this.#retry();
      if (next === undefined) return;
      current = next;
      begun = performance.now();
      const lostMs = Math.round(begun - lostAt);
      this.#options.logger.info(`the worker works again, after ${durationInWords(lostMs)}`, { lostMs, ...recovered });
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#stopped) return;
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([over, this.#interrupted()]);
    clearTimeout(timer);
  }

  async #retry(): Promise<Incarnation | undefined> {
    for (let pause = pauseMs.first as number; !this.#stopped; pause = Math.min(pauseMs.longest, pause * 2)) {
      try {
        const next = await this.#begin();
        if (!this.#stopped) return next;
        await next.stop(0);
        return undefined;
      } catch (reason) {
        this.#trouble = reason;
        this.#options.logger.warn("the worker cannot begin; it tries again", { reason, inMs: pause });
        await this.#pause(pause);
      }
    }
    return undefined;
  }

  #interrupted(): Promise<void> {
    return new Promise((resolve) => {
      this.#interrupt = resolve;
    });
  }
}
