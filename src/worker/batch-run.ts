/**
 * Runs one batch: a schema for each message, one handler for all, an outcome for each. Never throws; tells the outcomes as they are known.
 *
 * Where effects can be undone, in transaction mode, nobody pays for another's failure: the batch is rolled back, and its messages run again at
 * once in halves, down to the one that fails. Where they are elsewhere, each of a batch whose handler threw has failed; retries run alone.
 */
import { receive } from "../contracts/check.js";
import type { OpenTransaction } from "../core/database.js";
import { DatabaseUnavailableError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { verdictOf } from "../policies/verdicts.js";
import { asSay, type Batch, nothingSaid } from "../producer/buffer.js";
import { runSealed } from "../producer/transaction.js";
import { endManyAndCommit } from "../store/batch.js";
import type { Delivery } from "../store/work.js";
import { BatchCall, type Held } from "./batch-call.js";
import type { Many } from "./batch-context.js";
import { failureOf } from "./failure.js";
import type { Lost } from "./ledger.js";
import { type Handled, longestSilenceMs, type Ran, Run, type Running } from "./run.js";
import { lostIn } from "./settler.js";

const putOff = "is put off by its handler";

export interface BatchRunOptions {
  readonly running: Running;
  readonly handled: Handled;
  readonly many: Many;
  readonly logger: Logger;
  /** One message has ended. `quiet`: it was told already, with its batch. */
  readonly onRan: (delivery: Delivery, ran: Ran, quiet: boolean) => void;
  /** These succeeded together, and what their handler said goes out with all of them. */
  readonly onTogether: (deliveries: readonly Delivery[], batch: Batch) => void;
}

export class BatchRun {
  readonly #options: BatchRunOptions;
  /** Messages without an outcome. */
  readonly #open = new Set<Run>();
  #call: BatchCall | undefined;
  #stopped: Error | undefined;
  #told = false;
  /** The end of the deliveries was refused: somebody else ended one of them. */
  #lost: Lost | undefined;

  constructor(options: BatchRunOptions, deliveries: readonly Delivery[]) {
    this.#options = options;
    for (const delivery of deliveries) this.#open.add(new Run(options.running, options.handled, delivery));
  }

  abort(reason: Error): void {
    this.#stopped ??= reason;
    for (const run of this.#open) run.abort(reason);
    this.#call?.abort(reason);
  }

  /** Ends it without blame: what has no outcome yet is handed back. */
  release(reason: Error): void {
    this.#stopped ??= reason;
    for (const run of this.#open) run.release(reason);
    this.#call?.abort(reason);
  }

  /** Somebody asked to cancel a message. It has no signal of its own: when it fails, it ends as cancelled. */
  cancel(message: string): void {
    for (const run of this.#open) if (run.delivery.id === message) run.cancel();
  }

  /** Resolves when all have ended; never rejects. */
  async execute(): Promise<void> {
    try {
      const held = await this.#received();
      if (held.length === 0) return;
      if (this.#endsThemselves) await this.#inTransactions(held);
      else await this.#alone(held);
    } catch (error) {
      this.#failedAll(error, "was not run to its end");
    }
  }

  get #endsThemselves(): boolean {
    return this.#options.running.policy.idempotency === "transaction";
  }

  /** A message that does not fit its schema is invalid by itself; the others are handed over. */
  async #received(): Promise<Held[]> {
    const runs = [...this.#open];
    const { contract, version } = this.#options.handled;
    const all = await Promise.all(
      runs.map(async (run) => ({ run, got: await receive(contract, run.delivery.payload, version) })),
    );
    const held: Held[] = [];
    for (const { run, got } of all) {
      const { delivery } = run;
      if (got.ok) held.push({ run, payload: got.payload });
      else {
        const next = { invalid: got.issues };
        this.#ran(run, { kind: "ended", end: { delivery, outcome: "invalid", next, ends: this.#endsThemselves } });
      }
    }
    return held;
  }

  async #alone(held: readonly Held[]): Promise<void> {
    const call = this.#begin();
    let batch: Batch;
    try {
      await call.within(() => call.call(this.#options.many, held));
      const said = call.said();
      const some = held.some(({ run }) => !call.failed.has(run));
      if (!some) call.drop();
      batch = (some ? await said?.ready() : undefined) ?? nothingSaid;
    } catch (error) {
      call.drop(error);
      this.#thrown(call, error);
      return;
    }
    // All outcomes of a batch in one step, so that one statement settles them.
    this.#failedOnes(call);
    const succeeded = [...this.#open].map(({ delivery }) => delivery);
    this.#open.clear();
    if (succeeded.length > 0) this.#options.onTogether(succeeded, batch);
  }

  /** Of a batch whose handler threw each message has failed: by what was said of it alone, or with the others. */
  #thrown(call: BatchCall, error: unknown): void {
    if (error !== this.#stopped) this.#failedOnes(call);
    this.#failedAll(error, "failed; what is tried again runs alone");
  }

  async #inTransactions(held: readonly Held[]): Promise<void> {
    const pieces = [held];
    for (let piece = pieces.shift(); piece !== undefined; piece = pieces.shift()) {
      if (this.#stopped !== undefined) throw this.#stopped;
      pieces.unshift(...(await this.#inTransaction(piece)));
    }
  }

  /** Effects, outgoing messages and all ends commit together, or not at all. Returns what is to run again. Throws what concerns all. */
  async #inTransaction(piece: readonly Held[]): Promise<readonly (readonly Held[])[]> {
    const { database, policy } = this.#options.running;
    const open = await database.begin({ idleMs: longestSilenceMs(policy) });
    const call = this.#begin();
    let inHandler = true;
    this.#lost = undefined;
    try {
      open.onSavepoints({ mark: () => call.mark(), backTo: (mark) => call.backTo(mark) });
      await call.within(() => runSealed(open, () => call.call(this.#options.many, piece, open)));
      inHandler = false;
      const said = call.said();
      if (call.failed.size > 0) return await this.#withoutFailed(call, open, piece);
      const batch = (await said?.ready(open)) ?? nothingSaid;
      await this.#commit(call, open, piece, batch);
      return [];
    } catch (error) {
      call.drop(error);
      await rollback(open);
      if (open.notBegun !== undefined) return this.#again(call, piece, open.notBegun, false, false);
      return this.#again(call, piece, error, inHandler, open.lost && error !== call.aborted);
    }
  }

  async #commit(call: BatchCall, open: OpenTransaction, piece: readonly Held[], batch: Batch): Promise<void> {
    const { list, committed } = asSay([batch]);
    const deliveries = piece.map(({ run }) => run.delivery);
    if (call.aborted !== undefined) throw call.aborted;
    const places = await endManyAndCommit(open, deliveries, list).catch((error) => {
      this.#lost = lostIn(error) ?? undefined;
      throw error;
    });
    committed(places);
    for (const [i, { run }] of piece.entries()) {
      this.#ran(run, { kind: "committed", channels: i === 0 ? batch.channels : new Set() });
    }
  }

  /** The handler named those that failed. Their effects cannot be undone alone: everything is rolled back, and the others run without them. */
  async #withoutFailed(call: BatchCall, open: OpenTransaction, piece: readonly Held[]): Promise<readonly Held[][]> {
    call.drop();
    await rollback(open);
    this.#failedOnes(call);
    return [piece.filter(({ run }) => this.#open.has(run))].filter((rest) => rest.length > 0);
  }

  #again(
    call: BatchCall,
    piece: readonly Held[],
    error: unknown,
    blamed: boolean,
    cut: boolean,
  ): readonly (readonly Held[])[] {
    if (this.#stopped !== undefined) throw this.#stopped;
    if (this.#lost !== undefined) return this.#withoutLost(piece, this.#lost);
    // The database is away: it is nobody's fault here, and would be the same for the rest.
    if (!blamed && error instanceof DatabaseUnavailableError) throw error;
    this.#failedOnes(call);
    const left = piece.filter(({ run }) => this.#open.has(run));
    if (blamed && this.#putsOff(error)) {
      const runs = left.map(({ run }) => run);
      this.#failedTogether(runs, error, true, putOff);
      return [];
    }
    if (piece.length > 1) {
      this.#tellOfBatch(piece.length, "failed and was rolled back; its messages run again in smaller batches", error);
      const half = Math.ceil(left.length / 2);
      return [left.slice(0, half), left.slice(half)].filter((some) => some.length > 0);
    }
    for (const { run } of left) this.#ran(run, run.failed(error, blamed, cut));
    return [];
  }

  /** Somebody else ended one of them; the others were rolled back with it. */
  #withoutLost(piece: readonly Held[], lost: Lost): readonly (readonly Held[])[] {
    const isLost = ({ run: { delivery } }: Held): boolean =>
      delivery.hold.from === "log" ? lost.ended === delivery.id : lost.deferred === delivery.hold.deferred;
    const gone = piece.some(isLost) ? piece.filter(isLost) : piece;
    for (const { run } of gone) this.#ran(run, { kind: "lost" });
    return [piece.filter(({ run }) => this.#open.has(run))].filter((rest) => rest.length > 0);
  }

  #begin(): BatchCall {
    this.#call = new BatchCall(this.#options.running, this.#options.handled.contract);
    if (this.#stopped !== undefined) this.#call.abort(this.#stopped);
    return this.#call;
  }

  /** Those of which the handler said so. */
  #failedOnes(call: BatchCall): void {
    for (const [run, error] of call.failed) if (this.#open.has(run)) this.#ran(run, run.failed(error, true, false));
  }

  /** Whether it is a wish to come back later, which smaller batches would only repeat. */
  #putsOff(error: unknown): boolean {
    const kind = verdictOf(error)?.kind;
    return kind === "later" || (kind === "open" && this.#options.running.policy.circuitBreaker !== undefined);
  }

  /** All that have no outcome yet. */
  #failedAll(error: unknown, what: string): void {
    const blamed = !(error instanceof DatabaseUnavailableError);
    this.#failedTogether([...this.#open], error, blamed, blamed && this.#putsOff(error) ? putOff : what);
  }

  /** For the circuit it was one run, whose handler failed once. */
  #failedTogether(runs: readonly Run[], error: unknown, blamed: boolean, what: string): void {
    const many = runs.length > 1;
    if (many && error !== this.#stopped) this.#tellOfBatch(runs.length, what, error);
    for (const [i, run] of runs.entries()) {
      const ran = run.failed(error, blamed, false);
      this.#ran(run, i === 0 ? ran : withoutCircuit(ran), many);
    }
  }

  #ran(run: Run, ran: Ran, quiet = false): void {
    this.#open.delete(run);
    this.#options.onRan(run.delivery, ran, quiet);
  }

  /** Once for all of them, and not once for each of them or of their halves. */
  #tellOfBatch(messages: number, what: string, thrown: unknown): void {
    if (this.#told) return;
    this.#told = true;
    const { handled, running, logger } = this.#options;
    const error = failureOf(thrown);
    const why = error.message.slice(0, 200);
    const facts = { reader: running.name, messages, error };
    logger.warn(`a batch of ${messages} × ${handled.contract.name} in "${running.name}" ${what}: ${why}`, facts);
  }
}

export function withoutCircuit(ran: Ran): Ran {
  if (ran.kind !== "ended") return ran;
  const { circuit, ...rest } = ran;
  return rest;
}

async function rollback(open: OpenTransaction): Promise<void> {
  open.seal();
  await open.rollback();
}
