/**
 * One call of a handler of many: its signal, its deadline, what it says, and of which messages it says that they failed. Whatever the handler
 * does after its end is nobody's: a stray `send`, `publish` or `fail` is refused.
 */

import type { Overdue } from "../core/deadlines.js";
import { ConfigurationError, NotCommittedError } from "../core/errors.js";
import { sharedAbort } from "../core/shared-abort.js";
import { Buffer } from "../producer/buffer.js";
import { Causing } from "../producer/cause.js";
import type { SayBuffered } from "../producer/say.js";
import type { BaseBatchContext, Batched, Many } from "./batch-context.js";
import { tooLong } from "./failure.js";
import type { Handled, Run, Running } from "./run.js";

/** A message of a batch that fits its schema. */
export interface Held {
  readonly run: Run;
  readonly payload: unknown;
}

/** What a handler of one has for its message. Not to be seen; who calls it all the same is told why it is not there. */
const ofOneMessage: PropertyDescriptorMap = {
  step: { value: refusing("PH_STEP_REFUSED", "step() records what was done for one message") },
  progress: { value: refusing("PH_OPTION_INVALID", "progress() tells how far the run of one message is") },
};

export class BatchCall implements Overdue {
  dueAt = Number.POSITIVE_INFINITY;
  readonly #running: Running;
  readonly #contract: Handled["contract"];
  readonly #controller = sharedAbort();
  #abort: ((reason: Error) => void) | undefined;
  #buffer: Buffer | undefined;
  #held: readonly Held[] = [];
  #over = false;
  aborted: Error | undefined;
  /** What the handler said of single messages. */
  readonly failed = new Map<Run, unknown>();

  constructor(running: Running, contract: Handled["contract"]) {
    this.#running = running;
    this.#contract = contract;
  }

  abort(reason: Error): void {
    this.aborted ??= reason;
    this.#abort?.(reason);
    this.#controller.abort(reason);
  }

  /** Calls the handler. Rejects with what it threw, at the visibility timeout, or at an abort. */
  async call(many: Many, held: readonly Held[], tx?: { readonly native: unknown }): Promise<void> {
    this.#held = held;
    const messages = Object.freeze(held.map((one) => this.#messageOf(one)));
    const context = this.#context();
    if (tx !== undefined) Object.defineProperty(context, "tx", { value: tx.native, enumerable: true });
    await many.handler(messages, context);
  }

  /** The outcome of the handler, or an error as soon as it may not go on. */
  within(work: () => Promise<void>): Promise<void> {
    if (this.aborted !== undefined) return Promise.reject(this.aborted);
    return new Promise((resolve, reject) => {
      const { deadlines } = this.#running;
      this.dueAt = performance.now() + deadlines.limitMs;
      const at = deadlines.begin(this);
      const end = (): void => {
        deadlines.end(at, this);
        // An abort from here on is none of the handler's: its outcome stands.
        this.#abort = undefined;
      };
      const fail = (error: unknown): void => {
        end();
        reject(error);
      };
      this.#abort = fail;
      work().then(() => {
        end();
        resolve();
      }, fail);
    });
  }

  /** What the handler said until now; from here on it says no more. */
  said(): Buffer | undefined {
    this.#over = true;
    this.#buffer?.close();
    return this.#buffer;
  }

  /** Nothing of what was said goes out. */
  drop(error?: unknown): void {
    this.said()?.drop(error);
  }

  mark(): number {
    return this.#buffer?.mark() ?? 0;
  }

  backTo(mark: number): void {
    this.#buffer?.backTo(mark);
  }

  overdue(): void {
    this.abort(tooLong(this.#contract.name, this.#running.policy));
  }

  #messageOf({ run, payload }: Held): Batched<unknown> {
    const own = run.context();
    return {
      payload,
      get message() {
        return own.message;
      },
      attempt: own.attempt,
      idempotencyKey: own.idempotencyKey,
      fail: (error) => this.#fail(run, error),
    };
  }

  #fail(run: Run, error: unknown): void {
    if (this.#over) {
      throw new NotCommittedError(
        "PH_SAY_AFTER_END",
        `fail() was called after the handler of ${this.#contract.name} had ended; the outcome of its messages stands. Await whatever calls it inside.`,
      );
    }
    if (!this.failed.has(run)) this.failed.set(run, error);
  }

  #context(): BaseBatchContext {
    const send: SayBuffered["send"] = (command, payload, options) => this.#saying().send(command, payload, options);
    const publish: SayBuffered["publish"] = (event, payload, options) =>
      this.#saying().publish(event, payload, options);
    return Object.defineProperties({ signal: this.#controller.signal, send, publish }, ofOneMessage);
  }

  /** Made when the handler first says something. */
  #saying(): Buffer {
    if (this.#buffer === undefined) {
      const { catalog, asking, causationLimit } = this.#running;
      const deliveries = this.#held.map(({ run }) => run.delivery);
      const causing = new Causing(deliveries, this.#contract.name, causationLimit);
      this.#buffer = new Buffer(catalog, asking, `the handler of ${this.#contract.name}`, undefined, causing);
      if (this.#over) this.#buffer.close();
    }
    return this.#buffer;
  }
}

function refusing(code: "PH_STEP_REFUSED" | "PH_OPTION_INVALID", what: string): () => never {
  return () => {
    throw new ConfigurationError(code, `${what}, and this handler was given many. Use handle() or on().`);
  };
}
