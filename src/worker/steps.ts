/**
 * Steps of one run: what a handler did under a name is recorded on disk, and a later run of the same message gets the result instead of doing it
 * again.
 *
 * A step is recorded after its function has returned. Whoever dies between the two does it again: that gap is what idempotency keys are for.
 * Only the holder of the delivery records; the database decides who that is.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as pause } from "node:timers/promises";
import type { Executor } from "../core/database.js";
import { ClaimLostError, ConfigurationError, DatabaseUnavailableError, errorOf } from "../core/errors.js";
import { isWellFormed, type Json, toJson } from "../core/json.js";
import { limits } from "../core/limits.js";
import { quote, show } from "../core/show.js";
import type { Idempotency } from "../policies/policy.js";
import { recordStep, stepsOf } from "../store/steps.js";
import type { Delivery } from "../store/work.js";

/** A value as it comes back from JSON: a date is a string, what has `toJSON()` is what that returns. */
export type Recorded<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends { toJSON(...args: never[]): infer J }
    ? Recorded<J>
    : T extends bigint | symbol | ((...args: never[]) => unknown)
      ? never
      : T extends object
        ? { [K in keyof T]: Recorded<T[K]> }
        : T;

/**
 * Does something once for this message: the result is recorded, and a later run gets it instead of running `fn` again.
 *
 * Transaction: one of its own, on disk when the promise resolves.
 * Delivery: at least once. A process that dies after the effect and before the record repeats the effect: give the other side
 * `idempotencyKey(name)`. What `fn` throws is not recorded, and comes out here.
 * Concurrency: steps may run side by side. The name is the identity of a step within its message; used twice in a run it is refused.
 * Errors: `ConfigurationError` for a bad or repeated name, `ContractViolationError` and `PayloadTooLargeError` for a result that is no JSON of
 * the size that is allowed, `ClaimLostError` when the message was given to another worker meanwhile.
 * Limits: `stepNameLength`, `stepResultBytes`, `steps`.
 * Cost: one round trip that waits for the disk; in a later run one more for all steps together.
 */
export type Step = <T>(name: string, fn: () => T) => Promise<Recorded<Awaited<T>>>;

/** What steps need of the run that they are in. */
export interface Stepping {
  readonly delivery: Delivery;
  /** Settles when the delivery has its new hold. */
  readonly moving: Promise<void> | undefined;
  /** Why nothing more may begin; undefined while it may. */
  readonly ended: Error | undefined;
}

export interface Recording {
  readonly database: Executor;
  readonly worker: { readonly id: string };
  readonly policy: { readonly idempotency: Idempotency };
}

/** Whose step the code runs in. */
const within = new AsyncLocalStorage<Steps>();

/** How often a record is tried while the database is away, and the pause before the second time, which doubles. */
const tries = 5;
const firstPauseMs = 100;

export class Steps {
  readonly #recording: Recording;
  readonly #run: Stepping;
  readonly #names = new Set<string>();
  readonly #underWay = new Set<Promise<unknown>>();
  #done: Promise<ReadonlyMap<string, unknown>> | undefined;
  /** The worker does not hold the delivery any more. */
  lost = false;
  /** What kept the newest step from being recorded or read, and is not the handler's fault. */
  trouble: unknown;

  constructor(recording: Recording, run: Stepping) {
    this.#recording = recording;
    this.#run = run;
  }

  get busy(): boolean {
    return this.#underWay.size > 0;
  }

  /** Resolves when no step is under way; never rejects. */
  async quiet(): Promise<void> {
    while (this.busy) await Promise.allSettled(this.#underWay);
  }

  /** Refuses what the handler says in a step: it is written when the run succeeds, and a later run that skips the step would not say it. */
  refuseSaying(): void {
    if (within.getStore() !== this) return;
    throw new ConfigurationError(
      "PH_STEP_REFUSED",
      "send() and publish() of a handler do not go into a step: they are written when the run succeeds, and a later run skips the step. Call them behind it.",
    );
  }

  step(name: unknown, fn: unknown): Promise<unknown> {
    const step = this.#step(name, fn);
    this.#underWay.add(step);
    const over = (): void => void this.#underWay.delete(step);
    step.then(over, over);
    return step;
  }

  async #step(name: unknown, fn: unknown): Promise<unknown> {
    refuseMode(this.#recording.policy.idempotency);
    const checked = checkName(name);
    if (typeof fn !== "function") {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `step(${quote(checked)}, …) takes a function as its second argument, got ${show(fn)}.`,
        { step: checked },
      );
    }
    this.#refuseEnded(checked);
    this.#take(checked);
    // A first delivery has no steps: nothing is read.
    if (this.#run.delivery.delivery > 1) {
      const done = await this.#recorded();
      if (done.has(checked)) return done.get(checked);
      this.#refuseMany(checked, done);
      this.#refuseEnded(checked);
    }
    return this.#do(checked, fn as () => unknown);
  }

  async #do(name: string, fn: () => unknown): Promise<unknown> {
    let result: unknown;
    try {
      result = await within.run(this, fn);
    } catch (error) {
      // Nothing is recorded under it: the handler may try again.
      this.#names.delete(name);
      throw error;
    }
    const json = result === undefined ? undefined : resultAsJson(name, result);
    const before = await this.#record(name, json?.json ?? null);
    if (before !== undefined) return before.result;
    return json === undefined || json.same ? result : JSON.parse(json.json);
  }

  /** All steps that are done, read once in a run; after a failure the next step tries again. */
  #recorded(): Promise<ReadonlyMap<string, unknown>> {
    if (this.#done === undefined) {
      const { delivery } = this.#run;
      const reading = this.#guarded(() => stepsOf(this.#recording.database, delivery));
      this.#done = reading.then((done) => {
        if (done.size > 0) delivery.stepped = true;
        return done;
      });
      this.#done.catch(() => {
        this.#done = undefined;
      });
    }
    return this.#done;
  }

  async #record(name: string, result: string | null): Promise<{ readonly result?: unknown } | undefined> {
    const { database, worker } = this.#recording;
    const { delivery } = this.#run;
    // Before the statement: it may be recorded although its answer is lost.
    delivery.stepped = true;
    for (;;) {
      const { hold } = delivery;
      try {
        return await this.#guarded(() => recordStep(database, worker.id, delivery, name, result));
      } catch (error) {
        if (!(error instanceof ClaimLostError)) throw error;
        // It may have been moved out of its claim by ourselves, and is held in another way now.
        await this.#run.moving;
        if (delivery.hold !== hold) continue;
        this.lost = true;
        throw error;
      }
    }
  }

  /** Tries again while the database is away: the effect has happened, and to record a step twice does no harm. */
  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    for (let tried = 1; ; tried += 1) {
      try {
        return await work();
      } catch (error) {
        const away = error instanceof DatabaseUnavailableError;
        if (!away || tried >= tries || this.#run.ended !== undefined) {
          if (away) this.trouble = error;
          throw error;
        }
        await pause(firstPauseMs * 2 ** (tried - 1));
      }
    }
  }

  #take(name: string): void {
    if (this.#names.has(name)) {
      throw new ConfigurationError(
        "PH_STEP_TWICE",
        `The step ${quote(name)} was used before in this run. Each step of a message needs a name of its own, for instance with the number of the item.`,
        { step: name },
      );
    }
    if (this.#names.size >= limits.steps) throw tooMany(name);
    this.#names.add(name);
  }

  /** Those that are recorded and were not used in this run count as well. */
  #refuseMany(name: string, done: ReadonlyMap<string, unknown>): void {
    let count = done.size;
    for (const used of this.#names) if (!done.has(used)) count += 1;
    if (count > limits.steps) throw tooMany(name);
  }

  #refuseEnded(name: string): void {
    const { ended } = this.#run;
    if (ended === undefined) return;
    this.#names.delete(name);
    throw ended;
  }
}

function refuseMode(idempotency: Idempotency): void {
  if (idempotency === "handler") return;
  const reason =
    idempotency === "transaction"
      ? "there all effects commit with the end of the message, or not at all. Send a command to a queue in handler mode for what happens elsewhere"
      : "there a message is never delivered again, so nothing could be skipped";
  throw new ConfigurationError(
    "PH_STEP_REFUSED",
    `step() is for idempotency: "handler". This handler has idempotency: "${idempotency}": ${reason}.`,
    { idempotency },
  );
}

function checkName(name: unknown): string {
  const problem = problemOf(name);
  if (typeof name === "string" && problem === undefined) return name;
  throw new ConfigurationError("PH_NAME_INVALID", `The name of a step ${problem}.`);
}

function problemOf(name: unknown): string | undefined {
  if (typeof name !== "string") return `is a string, got ${show(name)}`;
  if (name.trim() === "") return "must not be empty";
  if (name.length > limits.stepNameLength) {
    return `has at most ${limits.stepNameLength} letters, got ${quote(name)}`;
  }
  if (/\p{Cc}/u.test(name) || !isWellFormed(name)) {
    return `must not have control characters or broken Unicode, got ${quote(name)}`;
  }
  return undefined;
}

function resultAsJson(name: string, result: unknown): Json {
  const what = `result of the step ${quote(name)}`;
  const json = toJson(result, what);
  const bytes = Buffer.byteLength(json.json);
  if (bytes <= limits.stepResultBytes) return json;
  throw errorOf(
    "PH_PAYLOAD_TOO_LARGE",
    `The ${what} takes ${bytes} bytes as JSON; at most ${limits.stepResultBytes} are allowed. Store it elsewhere and return a reference.`,
    { step: name, bytes, maxBytes: limits.stepResultBytes },
  );
}

function tooMany(name: string): Error {
  return errorOf(
    "PH_PAYLOAD_TOO_LARGE",
    `The step ${quote(name)} is one too many: a message has at most ${limits.steps} steps. Send a command for each part of the work.`,
    { step: name, max: limits.steps },
  );
}
