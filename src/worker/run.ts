/**
 * Runs one message: schema, handler, deadline, and in transaction mode the end that commits with the effects. Never throws; returns
 * what is left to be settled. If the process dies anywhere in here, the delivery has no end, and a rescuer gives it one.
 */
import { checkResult, type PreparedResult, type Received, receive } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { composed } from "../core/composed.js";
import type { Database, OpenTransaction } from "../core/database.js";
import type { Deadlines, Overdue } from "../core/deadlines.js";
import { CancelledError, ClaimLostError, DatabaseUnavailableError, NotCommittedError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Logger } from "../core/logger.js";
import { isThenable } from "../core/thenable.js";
import { type CheckedPolicy, policyFields } from "../policies/policy.js";
import { type Verdict, verdictOf } from "../policies/verdicts.js";
import { asSay, type Batch, Buffer, nothingSaid } from "../producer/buffer.js";
import type { Catalog } from "../producer/catalog.js";
import { Causing } from "../producer/cause.js";
import type { Asking } from "../producer/receipt.js";
import type { Room } from "../producer/room.js";
import { runSealed } from "../producer/transaction.js";
import type { CircuitEvent } from "../store/circuit.js";
import { type Place, publicId } from "../store/publish.js";
import { endWithResultAndCommit } from "../store/results.js";
import { type Delivery, type End, endAndCommit, type Next, type StoredResult } from "../store/work.js";
import type { Many } from "./batch-context.js";
import { type Behind, RunContext, TransactionRunContext } from "./context.js";
import {
  afterFailure,
  afterUnknown,
  entryOf,
  type Failure,
  failureOf,
  tooLong,
  type WorkerIdentity,
} from "./failure.js";
import { checkProgress, type Progress } from "./progress.js";
import { type Stepping, Steps } from "./steps.js";
import { decide, withoutBreaker } from "./verdict.js";

export interface Handled {
  readonly contract: AnyContract;
  readonly handler: (payload: unknown, context: RunContext) => unknown;
  /** The version that its messages were said in; without it the contract's. */
  readonly version?: number;
  /** It takes many messages at once; then `handler` is not called. */
  readonly many?: Many;
}

/** What runs of one reader share. */
export interface Running {
  readonly name: string;
  readonly policy: CheckedPolicy;
  readonly database: Database;
  readonly catalog: Catalog;
  readonly asking: Asking;
  readonly room: Room;
  /** How many handlers may lie between a message that a handler says and the one that began it. */
  readonly causationLimit: number;
  readonly worker: WorkerIdentity;
  readonly deadlines: Deadlines;
  readonly progress: Progress;
  readonly logger: Logger;
}

/** What is left to be done about a run. */
export type Ran =
  | { readonly kind: "succeeded"; readonly batch: Batch; readonly result?: StoredResult }
  /** Ended with its effects in the handler's own transaction; `channels` got messages. */
  | { readonly kind: "committed"; readonly channels: ReadonlySet<number> }
  | {
      readonly kind: "ended";
      readonly end: End;
      readonly error?: unknown;
      /** Somebody asked to cancel it, and then it failed. */
      readonly cancelled?: boolean;
      /** What is to be told beside the error. */
      readonly note?: string;
      /** What it means for the circuit, where there is one. */
      readonly circuit?: CircuitEvent;
    }
  /** Somebody else ended it. */
  | { readonly kind: "lost" };

/** Most runs end so. */
const succeeded: Ran = { kind: "succeeded", batch: nothingSaid };

/** A handler may be silent on its transaction for as long as it may run; a little more, so that the client ends it first. */
const graceMs = 5_000;
/** The server counts in 32 bits. */
const longestIdleMs = 2_147_483_647;

/** How long a handler's transaction may be silent. */
export function longestSilenceMs({ visibilityTimeoutMs }: CheckedPolicy): number {
  return Math.min(visibilityTimeoutMs + graceMs, longestIdleMs);
}

/** One run. `abort` ends it from outside: its signal fires, and its slot is free at once. */
export class Run implements Behind, Overdue, Stepping {
  readonly delivery: Delivery;
  dueAt = Number.POSITIVE_INFINITY;
  readonly #running: Running;
  readonly #handled: Handled;
  readonly #startedAt: number;
  /** Where its end is told. */
  #tell: (ran: Ran) => void = () => undefined;
  #controller: AbortController | undefined;
  #abort: ((reason: Error) => void) | undefined;
  #aborted: Error | undefined;
  #released = false;
  /** Settles when the delivery has been moved out of its claim; its end goes by the new hold. */
  moving: Promise<void> | undefined;
  /** The statement that ends the delivery is on its way: too late to move it. */
  ending = false;
  /** Somebody asked to cancel it: its signal has fired, and the handler may end as it likes. */
  #cancelled: Error | undefined;
  /** Whether its handler told of its progress. */
  told = false;
  #buffer: Buffer | undefined;
  #steps: Steps | undefined;
  /** The handler has ended, or what it says has no meaning any more. */
  #over = false;
  /** The user's handler is what failed: its error is its own, whatever its class. */
  #blamed = false;
  /** The connection of its transaction was lost: whatever the handler threw, that is why. */
  #cut = false;
  /** The database refused our end: somebody else ended this delivery. */
  #lost = false;

  constructor(running: Running, handled: Handled, delivery: Delivery, startedAt = Date.now()) {
    this.#startedAt = startedAt;
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

  /** Fires the signal, and lets the handler decide. The database makes the end of it: of a run that fails now, cancelled. */
  cancel(): void {
    if (this.#aborted !== undefined || this.#cancelled !== undefined) return;
    const id = publicId(this.delivery);
    const said = `Somebody asked to cancel the message ${id}.`;
    this.#cancelled = composed(new CancelledError("PH_CANCELLED", said, { id }));
    this.#controller?.abort(this.#cancelled);
  }

  /** Calls back when it has ended, and not before it returns; never throws. Few promises: this is the path of every message. */
  execute(ended: (ran: Ran) => void): void {
    this.#tell = ended;
    try {
      const { contract, version } = this.#handled;
      const arrival = hasExpired(this.delivery) ? undefined : receive(contract, this.delivery.payload, version);
      if (arrival === undefined) this.#later({ kind: "ended", end: expired(this.delivery, this.#ends) });
      else if (!(arrival instanceof Promise)) this.#received(arrival);
      else arrival.then((received) => this.#received(received)).catch((error) => this.#fail(error));
    } catch (error) {
      this.#later(this.#failed(error));
    }
  }

  #received(received: Received): void {
    if (!received.ok) {
      const next = { invalid: received.issues };
      this.#later({ kind: "ended", end: { delivery: this.delivery, outcome: "invalid", next, ends: this.#ends } });
    } else if (this.#ends) {
      this.#inTransaction(received.payload).then(this.#tell, (error) => this.#fail(error));
    } else this.#alone(received.payload);
  }

  #later(ran: Ran): void {
    queueMicrotask(() => this.#tell(ran));
  }

  #fail(error: unknown): void {
    this.#buffer?.drop(error);
    this.#tell(this.#failed(error));
  }

  get #ends(): boolean {
    return this.#running.policy.idempotency === "transaction";
  }

  #alone(payload: unknown): void {
    this.#handle(
      () => this.#handled.handler(payload, new RunContext(this)),
      (result) => {
        const said = this.#said();
        const plain = said === undefined && this.#handled.contract["~posthorn"].inside.result === undefined;
        if (plain) this.#tell(succeeded);
        else this.#checked(result, said).then(this.#tell, (error) => this.#fail(error));
      },
      (error) => this.#fail(error),
    );
  }

  async #checked(result: unknown, said: Buffer | undefined): Promise<Ran> {
    const stored = this.#stored(await checkResult(this.#handled.contract, result));
    const batch = (await said?.ready()) ?? nothingSaid;
    return stored === undefined ? { kind: "succeeded", batch } : { kind: "succeeded", batch, result: stored };
  }

  #stored({ json }: PreparedResult): StoredResult | undefined {
    if (json === null) return undefined;
    const { key, contract } = this.delivery;
    const keepMs = this.#running.policy.results?.keepMs ?? policyFields.results.fields.keepMs.default;
    return { text: json, keepMs, contract, ...(key === null ? {} : { key }) };
  }

  /** Effects, outgoing messages and the end commit together, or not at all. */
  async #inTransaction(payload: unknown): Promise<Ran> {
    const open = await this.#running.database.begin({ idleMs: longestSilenceMs(this.#running.policy) });
    try {
      open.onSavepoints({ mark: () => this.#buffer?.mark() ?? 0, backTo: (mark) => this.#buffer?.backTo(mark) });
      const context = new TransactionRunContext(this, open.native);
      const handler = () => runSealed(open, async () => this.#handled.handler(payload, context));
      const result = await new Promise((resolve, reject) => this.#handle(handler, resolve, reject));
      const said = this.#said();
      const stored = this.#stored(await checkResult(this.#handled.contract, result));
      const batch = (await said?.ready(open)) ?? nothingSaid;
      if (this.moving !== undefined) await this.moving;
      this.ending = true;
      const { list, committed } = asSay([batch]);
      if (this.#aborted !== undefined) throw this.#aborted;
      committed(await this.#end(open, list, stored));
      return { kind: "committed", channels: batch.channels };
    } catch (error) {
      this.#said();
      await this.#rollback(open);
      this.#cut = open.lost && error !== this.#aborted;
      if (open.notBegun === undefined) throw error;
      // Whatever the handler made of it.
      this.#blamed = false;
      throw open.notBegun;
    }
  }

  /** Calls one of the two once, and not before it returns. */
  #handle(handler: () => unknown, succeed: (value: unknown) => void, fail: (error: unknown) => void): void {
    // It was released or given up while its schema or its transaction was waited for: somebody else may run it already.
    const stopped = this.#aborted ?? this.#cancelled;
    try {
      if (stopped === undefined) this.#within(handler(), succeed, fail);
      else queueMicrotask(() => fail(stopped));
    } catch (error) {
      this.#blamed = true;
      queueMicrotask(() => fail(error));
    }
  }

  async #end(
    open: OpenTransaction,
    say: string | null,
    stored: StoredResult | undefined,
  ): Promise<ReadonlyMap<string, Place>> {
    try {
      if (stored !== undefined) return await endWithResultAndCommit(open, this.delivery, say, stored);
      return await endAndCommit(open, this.delivery, say);
    } catch (error) {
      this.#lost = error instanceof ClaimLostError;
      throw error;
    }
  }

  async #rollback(open: OpenTransaction): Promise<void> {
    open.seal();
    await open.rollback();
  }

  get reader(): string {
    return this.#running.name;
  }

  get contract(): AnyContract {
    return this.#handled.contract;
  }

  get version(): number {
    return this.#handled.version ?? this.#handled.contract.version;
  }

  /** Made when the handler first says something. A stray call after the end is refused by it. */
  get saying(): Buffer {
    this.#steps?.refuseSaying();
    if (this.#buffer === undefined) {
      const { catalog, asking, room, causationLimit } = this.#running;
      const { name } = this.#handled.contract;
      const causing = new Causing([this.delivery], name, causationLimit);
      this.#buffer = new Buffer(catalog, asking, `the handler of ${name}`, room, causing);
      if (this.#over) this.#buffer.close();
    }
    return this.#buffer;
  }

  /** Made when the handler first reads it, which may be after it should have fired. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      const reason = this.#aborted ?? this.#cancelled;
      if (reason !== undefined) this.#controller.abort(reason);
    }
    return this.#controller.signal;
  }

  /** What the handler said until now, and no more. */
  #said(): Buffer | undefined {
    this.#over = true;
    this.#buffer?.close();
    return this.#buffer;
  }

  /** Made when the handler comes to its first step. */
  readonly step: Steps["step"] = (name, fn) => {
    this.#steps ??= new Steps(this.#running, this);
    return this.#steps.step(name, fn);
  };

  /** Why no step of it may begin any more. */
  get ended(): Error | undefined {
    if (this.#aborted !== undefined || !this.#over) return this.#aborted;
    return new NotCommittedError(
      "PH_STEP_AFTER_END",
      `step() was called after the handler of ${this.#handled.contract.name} had ended; nothing was done. Await whatever calls it inside.`,
    );
  }

  /** Of a message of a batch, whose handler is called for several. */
  context(): RunContext {
    return new RunContext(this);
  }

  /** The same: what follows from an error. `blamed`: the handler's; `cut`: while its connection was lost. */
  failed(error: unknown, blamed: boolean, cut: boolean): Ran {
    this.#blamed = blamed;
    this.#cut = cut;
    return this.#failed(error);
  }

  /** Of a handler in transaction mode that holds the only connection, nothing could be written before it ends. */
  readonly progress = (value: unknown): void => {
    const { database, logger, progress } = this.#running;
    if (this.#over || (this.#ends && database.single)) return;
    try {
      const checked = checkProgress(value);
      this.told = true;
      progress.tell(this.delivery, checked);
    } catch (error) {
      logger.warn(`the handler of ${this.#handled.contract.name} told a progress that cannot be kept`, { error });
    }
  };

  /** The handler's outcome, or an error at the visibility timeout or abort. What the handler does later is nobody's. */
  #within(outcome: unknown, succeed: (value: unknown) => void, fail: (error: unknown) => void): void {
    if (this.#aborted === undefined && !isThenable(outcome) && this.#steps?.busy !== true) {
      void Promise.resolve(outcome).then(succeed);
      return;
    }
    const settled = Promise.resolve(outcome);
    const { deadlines } = this.#running;
    this.dueAt = performance.now() + deadlines.limitMs;
    const at = deadlines.begin(this);
    let decided = false;
    // An abort from here on is none of the handler's: its outcome stands.
    const end = (failed: boolean): boolean => {
      if (decided) return false;
      decided = true;
      deadlines.end(at, this);
      this.#abort = undefined;
      if (failed) this.#blamed = true;
      return true;
    };
    this.#abort = (reason) => {
      if (end(true)) queueMicrotask(() => fail(reason));
    };
    if (this.#aborted !== undefined) this.#abort(this.#aborted);
    settled.then(
      (value) => this.#afterSteps(() => end(false) && succeed(value)),
      (error) => this.#afterSteps(() => end(true) && fail(error)),
    );
  }

  /** Steps that are under way are waited for, so that what they did is recorded and not done again. */
  #afterSteps(act: () => void): void {
    if (this.#steps?.busy === true) void this.#steps.quiet().then(act);
    else act();
  }

  overdue(): void {
    this.abort(tooLong(this.#handled.contract.name, this.#running.policy));
  }

  #failed(error: unknown): Ran {
    this.#over = true;
    if (this.#lost) return { kind: "lost" };
    const { delivery } = this;
    const { policy, worker } = this.#running;
    const once = policy.idempotency === "at-most-once";
    // Of one that is not ours any more the end is refused, whatever it says; this one would do no harm.
    const handedBack = (this.#released && error === this.#aborted) || this.#steps?.lost === true;
    if (handedBack && !once) return { kind: "ended", end: released(delivery, this.#ends) };
    // Before anything else looks at it: a retry function may change what it is given.
    const failure = failureOf(error);
    const cancelled = this.#cancelled !== undefined;
    if (handedBack) {
      // It has begun and may go on: nobody may run it again.
      const entry = entryOf(delivery, "failed", worker, this.#startedAt, failure);
      const end: End = { delivery, outcome: "failed", entry, next: afterUnknown(delivery, policy), ends: false };
      return { kind: "ended", end, error };
    }
    const verdict = this.#blamed && !cancelled ? verdictOf(error) : undefined;
    if (verdict !== undefined) return this.#decided(verdict, error, failure);
    const trouble = this.#afterTrouble(error);
    const { next, note } = trouble === undefined ? afterFailure(delivery, policy, error) : { next: trouble };
    const entry = entryOf(delivery, cancelled ? "cancelled" : "failed", worker, this.#startedAt, failure, note);
    return {
      kind: "ended",
      end: { delivery, outcome: "failed", entry, next, ends: this.#ends },
      error,
      cancelled,
      ...(note === undefined ? {} : { note }),
      // Whoever asked for the end of it says nothing about what it calls.
      ...(trouble === undefined && !cancelled ? { circuit: { failed: 1 } } : {}),
    };
  }

  /** The handler decided by what it threw. */
  #decided(verdict: Verdict, error: unknown, failure: Failure): Ran {
    const { policy, worker, name } = this.#running;
    const { delivery } = this;
    if (verdict.kind === "open" && policy.circuitBreaker === undefined) {
      // Branded no more: the policy decides about it.
      return this.#failed(withoutBreaker(name, error));
    }
    const { outcome, next, note, circuit } = decide(delivery, policy, verdict, error);
    const kept = outcome === "postponed" ? undefined : failure;
    const entry = entryOf(delivery, outcome, worker, this.#startedAt, kept, note);
    const end: End = { delivery, outcome, entry, next, ends: this.#ends };
    return { kind: "ended", end, error, ...(note === undefined ? {} : { note }), ...(circuit ? { circuit } : {}) };
  }

  /** Our own trouble with the database is not the message's fault: no attempt is burnt, but it is told. */
  #afterTrouble(error: unknown): Next | undefined {
    const { attempts, crashes } = this.delivery;
    const again = { delayMs: 1_000, attempts, crashes };
    if (!this.#blamed && isOurTrouble(error, this.#ends)) return { defer: again };
    // In the middle of a statement of the handler's, which may be what ends connections, or behind the effect of a step: counted as a crash, and
    // not for ever.
    const broken = this.#cut || (error !== undefined && error === this.#steps?.trouble);
    if (this.#blamed && broken && crashes + 1 < limits.crashes) return { defer: { ...again, crashes: crashes + 1 } };
    return undefined;
  }
}

/** Behind the one that lies in the way of its key. It was never run. */
export function putAside(delivery: Delivery, ends: boolean): End {
  return { ...released(delivery, ends), outcome: "parked" };
}

/** Back into the queue, due at once, for whoever can take it; no attempt is burnt. */
export function released(delivery: Delivery, ends: boolean): End {
  const { attempts, crashes } = delivery;
  return { delivery, outcome: "released", next: { defer: { delayMs: 0, attempts, crashes } }, ends };
}

/** Its time is over: it is not begun, and not tried again. */
export function expired(delivery: Delivery, ends: boolean): End {
  return { delivery, outcome: "expired", next: null, ends };
}

export function hasExpired({ expiresAt }: Delivery): boolean {
  return expiresAt !== undefined && performance.now() >= expiresAt;
}

const ourTroubles: ReadonlySet<string> = new Set([
  "PH_DATABASE_AWAY",
  "PH_DATABASE_LOST",
  "PH_DATABASE_BUSY",
  "PH_DATABASE_READ_ONLY",
]);

/** The connection of the handler's transaction failed, not the handler. */
function isOurTrouble(error: unknown, inTransaction: boolean): boolean {
  if (!inTransaction || !(error instanceof DatabaseUnavailableError)) return false;
  return ourTroubles.has(error.code);
}
