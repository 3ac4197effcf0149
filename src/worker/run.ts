/**
 * Runs one message: schema, handler, deadline, and in transaction mode the end that commits with the effects. Never throws; returns
 * what is left to be settled. If the process dies anywhere in here, the delivery has no end, and a rescuer gives it one.
 */
import { checkResult, type Received, receive } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import type { Database, OpenTransaction } from "../core/database.js";
import { ClaimLostError, DatabaseUnavailableError, DeadlineError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { CheckedPolicy } from "../policies/policy.js";
import { asSay, type Batch, Buffer, nothingSaid } from "../producer/buffer.js";
import type { Catalog } from "../producer/catalog.js";
import type { Asking } from "../producer/receipt.js";
import { runSealed } from "../producer/transaction.js";
import type { Place } from "../store/publish.js";
import { mapped } from "../store/sqlstate.js";
import { type Delivery, type End, endInTransaction, endStatement, type Next } from "../store/work.js";
import { RunContext } from "./context.js";
import type { Deadlines } from "./deadlines.js";
import { afterFailure, afterUnknown, entryOf, failureOf, type WorkerIdentity } from "./failure.js";

export interface Handled {
  readonly contract: AnyContract;
  readonly handler: (payload: unknown, context: RunContext) => unknown;
}

/** What runs of one reader share. */
export interface Running {
  readonly name: string;
  readonly policy: CheckedPolicy;
  readonly database: Database;
  readonly catalog: Catalog;
  readonly asking: Asking;
  readonly worker: WorkerIdentity;
  readonly deadlines: Deadlines;
}

/** What is left to be done about a run. */
export type Ran =
  | { readonly kind: "succeeded"; readonly batch: Batch }
  /** Ended with its effects in the handler's own transaction; `channels` got messages. */
  | { readonly kind: "committed"; readonly channels: ReadonlySet<number> }
  | { readonly kind: "ended"; readonly end: End; readonly error?: unknown }
  /** Somebody else ended it. */
  | { readonly kind: "lost" };

/** Most runs end so. */
const succeeded: Ran = { kind: "succeeded", batch: nothingSaid };

/** A handler may be silent on its transaction for as long as it may run; a little more, so that the client ends it first. */
const graceMs = 5_000;
/** The server counts in 32 bits. */
const longestIdleMs = 2_147_483_647;

/** One run. `abort` ends it from outside: its signal fires, and its slot is free at once. */
export class Run {
  readonly delivery: Delivery;
  readonly #running: Running;
  readonly #handled: Handled;
  readonly #startedAt = Date.now();
  #controller: AbortController | undefined;
  #abort: ((reason: Error) => void) | undefined;
  #aborted: Error | undefined;
  #released = false;
  #buffer: Buffer | undefined;
  /** The handler has ended, or what it says has no meaning any more. */
  #over = false;
  /** The user's handler is what failed: its error is its own, whatever its class. */
  #blamed = false;
  /** The connection of its transaction was lost: whatever the handler threw, that is why. */
  #cut = false;
  /** The database refused our end: somebody else ended this delivery. */
  #lost = false;

  constructor(running: Running, handled: Handled, delivery: Delivery) {
    this.#running = running;
    this.#handled = handled;
    this.delivery = delivery;
  }

  abort(reason: Error): void {
    this.#aborted ??= reason;
    this.#abort?.(reason);
    this.#controller?.abort(reason);
  }

  /** Ends it without blame: it is handed back. */
  release(reason: Error): void {
    this.#released = this.#aborted === undefined;
    this.abort(reason);
  }

  /** Resolves when it has ended; never rejects. Few promises: this is the path of every message. */
  execute(): Promise<Ran> {
    try {
      if (hasExpired(this.delivery)) return Promise.resolve({ kind: "ended", end: expired(this.delivery, this.#ends) });
      const arrival = receive(this.#handled.contract, this.delivery.payload);
      if (!(arrival instanceof Promise)) return this.#received(arrival);
      return arrival.then((received) => this.#received(received)).catch((error) => this.#failed(error));
    } catch (error) {
      return Promise.resolve(this.#failed(error));
    }
  }

  #received(received: Received): Promise<Ran> {
    if (!received.ok) {
      const next = { invalid: received.issues };
      return Promise.resolve({
        kind: "ended",
        end: { delivery: this.delivery, outcome: "invalid", next, ends: this.#ends },
      });
    }
    const ran = this.#ends ? this.#inTransaction(received.payload) : this.#alone(received.payload);
    return ran.catch((error) => {
      this.#buffer?.drop(error);
      return this.#failed(error);
    });
  }

  get #ends(): boolean {
    return this.#running.policy.idempotency === "transaction";
  }

  #alone(payload: unknown): Promise<Ran> {
    return this.#handle(() => this.#handled.handler(payload, this.#context())).then((result) => {
      const said = this.#said();
      if (said === undefined && this.#handled.contract["~posthorn"].inside.result === undefined) return succeeded;
      return this.#checked(result, said);
    });
  }

  async #checked(result: unknown, said: Buffer | undefined): Promise<Ran> {
    await checkResult(this.#handled.contract, result);
    return { kind: "succeeded", batch: (await said?.ready()) ?? nothingSaid };
  }

  /** Effects, outgoing messages and the end commit together, or not at all. */
  async #inTransaction(payload: unknown): Promise<Ran> {
    const { visibilityTimeoutMs } = this.#running.policy;
    const open = await this.#running.database.begin({ idleMs: Math.min(visibilityTimeoutMs + graceMs, longestIdleMs) });
    try {
      open.onSavepoints({ mark: () => this.#buffer?.mark() ?? 0, backTo: (mark) => this.#buffer?.backTo(mark) });
      const context = Object.defineProperty(this.#context(), "tx", { value: open.native, enumerable: true });
      const result = await this.#handle(() => runSealed(open, async () => this.#handled.handler(payload, context)));
      const said = this.#said();
      await checkResult(this.#handled.contract, result);
      const batch = (await said?.ready(open)) ?? nothingSaid;
      if (batch.messages.length === 0) {
        if (this.#aborted !== undefined) throw this.#aborted;
        await this.#endWith(open);
      } else {
        const { list, committed } = asSay([batch]);
        const places = await this.#end(open, list);
        if (this.#aborted !== undefined) throw this.#aborted;
        await open.commit();
        committed(places);
      }
      return { kind: "committed", channels: batch.channels };
    } catch (error) {
      this.#said();
      await this.#rollback(open);
      this.#cut = open.lost && error !== this.#aborted;
      throw error;
    }
  }

  #handle(handler: () => unknown): Promise<unknown> {
    // It was released or given up while its schema or its transaction was waited for: somebody else may run it already.
    if (this.#aborted !== undefined) return Promise.reject(this.#aborted);
    try {
      return this.#within(handler());
    } catch (error) {
      this.#blamed = true;
      return Promise.reject(error);
    }
  }

  /** The end and COMMIT in one round trip. */
  async #endWith(open: OpenTransaction): Promise<void> {
    try {
      await mapped(open.commit(endStatement(this.delivery, open.startedAt)));
    } catch (error) {
      this.#lost = error instanceof ClaimLostError;
      throw error;
    }
  }

  async #end(open: OpenTransaction, say: string | null): Promise<ReadonlyMap<string, Place>> {
    try {
      return await endInTransaction(open, this.delivery, open.startedAt, say);
    } catch (error) {
      this.#lost = error instanceof ClaimLostError;
      throw error;
    }
  }

  async #rollback(open: OpenTransaction): Promise<void> {
    open.seal();
    await open.rollback();
  }

  /** Made when the handler first says something. A stray call after the end is refused by it. */
  readonly #saying = (): Buffer => {
    if (this.#buffer === undefined) {
      const { catalog, asking } = this.#running;
      this.#buffer = new Buffer(catalog, asking, `the handler of ${this.#handled.contract.name}`);
      if (this.#over) this.#buffer.close();
    }
    return this.#buffer;
  };

  /** What the handler said until now, and no more. */
  #said(): Buffer | undefined {
    this.#over = true;
    this.#buffer?.close();
    return this.#buffer;
  }

  #context(): RunContext {
    const { name, version } = this.#handled.contract;
    return new RunContext(this.delivery, this.#running.name, { name, version }, () => this.#signalling(), this.#saying);
  }

  #signalling(): AbortController {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller;
  }

  /** The handler's outcome, or an error at the visibility timeout or abort. What the handler does later is nobody's. */
  #within(outcome: unknown): Promise<unknown> {
    if (this.#aborted === undefined && !isThenable(outcome)) return Promise.resolve(outcome);
    return new Promise((resolve, reject) => {
      const { deadlines } = this.#running;
      deadlines.begin(this);
      const end = (): void => {
        deadlines.end(this);
        // An abort from here on is none of the handler's: its outcome stands.
        this.#abort = undefined;
      };
      const fail = (error: unknown): void => {
        end();
        this.#blamed = true;
        reject(error);
      };
      this.#abort = fail;
      if (this.#aborted !== undefined) fail(this.#aborted);
      Promise.resolve(outcome).then((value) => {
        end();
        resolve(value);
      }, fail);
    });
  }

  overdue(): void {
    this.abort(this.#tooLong());
  }

  #tooLong(): DeadlineError {
    const { visibilityTimeoutMs } = this.#running.policy;
    return new DeadlineError(
      "PH_DEADLINE",
      `The handler of ${this.#handled.contract.name} did not end within visibilityTimeoutMs (${visibilityTimeoutMs} ms).`,
      { visibilityTimeoutMs },
    );
  }

  #failed(error: unknown): Ran {
    this.#over = true;
    if (this.#lost) return { kind: "lost" };
    const { delivery } = this;
    const { policy, worker } = this.#running;
    const once = policy.idempotency === "at-most-once";
    const handedBack = this.#released && error === this.#aborted;
    if (handedBack && !once) return { kind: "ended", end: released(delivery, this.#ends) };
    const entry = entryOf(delivery, "failed", worker, this.#startedAt, failureOf(error));
    if (handedBack) {
      // It has begun and may go on: nobody may run it again.
      return {
        kind: "ended",
        end: { delivery, outcome: "failed", entry, next: afterUnknown(delivery, policy), ends: false },
        error,
      };
    }
    const next = this.#afterTrouble(error) ?? afterFailure(delivery, policy);
    return { kind: "ended", end: { delivery, outcome: "failed", entry, next, ends: this.#ends }, error };
  }

  /** Our own trouble with the database is not the message's fault: no attempt is burnt, but it is told. */
  #afterTrouble(error: unknown): Next | undefined {
    const { attempts, crashes } = this.delivery;
    const again = { delayMs: 1_000, attempts, crashes };
    if (!this.#blamed && isOurTrouble(error, this.#ends)) return { defer: again };
    // In the middle of a statement of the handler's, which may be what ends connections: counted as a crash, and not for ever.
    if (this.#blamed && this.#cut && crashes + 1 < limits.crashes) return { defer: { ...again, crashes: crashes + 1 } };
    return undefined;
  }
}

/** Back into the queue, due at once, for whoever can take it; no attempt is burnt. */
export function released(delivery: Delivery, ends: boolean): End {
  const { attempts, crashes } = delivery;
  return { delivery, outcome: "released", next: { defer: { delayMs: 0, attempts, crashes } }, ends };
}

/** Its time is over: it is not begun, and not tried again. */
function expired(delivery: Delivery, ends: boolean): End {
  return { delivery, outcome: "expired", next: null, ends };
}

function hasExpired({ expiresAt }: Delivery): boolean {
  return expiresAt !== undefined && performance.now() >= expiresAt;
}

/** The connection of the handler's transaction failed, not the handler. */
function isOurTrouble(error: unknown, inTransaction: boolean): boolean {
  if (!inTransaction || !(error instanceof DatabaseUnavailableError)) return false;
  return error.code === "PH_DATABASE_AWAY" || error.code === "PH_DATABASE_LOST" || error.code === "PH_DATABASE_BUSY";
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}
