/**
 * Runs one intake that is held here: receives, writes, and acknowledges what is committed, in the order of the broker.
 *
 * While one batch is written the next one is received and read; it is never written before it. Killed before the commit: nothing of the batch is in the
 * log, and the broker gives it again. Killed between the commit and the acknowledgement: it comes again, and the inbox absorbs it.
 */
import { setImmediate as turn, setTimeout as wait } from "node:timers/promises";
import type { Incoming, Receiver } from "../brokers/broker.js";
import { neverReached } from "../brokers/never-reached.js";
import { reasonOf } from "../core/clean.js";
import type { Executor } from "../core/database.js";
import { ClaimLostError, ConfigurationError } from "../core/errors.js";
import { type Logger, recovered } from "../core/logger.js";
import { durationInWords } from "../core/words.js";
import { delayMs, retry } from "../policies/retry.js";
import type { Holding } from "../store/intake.js";
import type { Noted } from "./noted.js";
import { Notices } from "./notices.js";
import type { IntakeDeclaration } from "./options.js";
import type { Reader } from "./reading.js";
import { type Batch, Gathering, readBatch, Writing } from "./writing.js";

export interface RunOptions {
  readonly declaration: IntakeDeclaration;
  readonly reader: Reader;
  readonly holding: Holding;
  readonly executor: Executor;
  readonly logger: Logger;
  readonly noted: Noted;
  /** These channels got messages. */
  readonly onWritten: (channels: ReadonlySet<number>) => void;
  /** Another worker runs it now. */
  readonly onLost: () => void;
}

/** How long one call waits for the first message. */
const waitMs = 1_000;
/** And while a batch is written: what is written is not to wait long for its acknowledgement where a broker does not heed the signal. */
const besideMs = 100;
/** A receiver that gives nothing and has not waited is asked again after this: between it and the next call nothing else might run. */
const restMs = 10;
/** After the connection was lost, or could not be made. Spread, so that a fleet does not come back to a broker in step. */
const again = retry.exponential({ firstMs: 1_000, maxMs: 10_000, attempts: Number.POSITIVE_INFINITY });

export class Run {
  readonly #options: RunOptions;
  readonly #writing: Writing;
  readonly #notices: Notices;
  #wasOpen = false;
  /** Opened after a trouble, and not heard of since: what it was lost over may lie there still, and it would be lost at once, again and again. */
  #isUnproven = false;
  /** Ends waiting for the broker; what is being written is written. */
  readonly #stopping = new AbortController();
  /** Ends everything. */
  readonly #abandoned = new AbortController();
  #receiver: Receiver | undefined;
  #opening: Promise<void> | undefined;
  #trouble: string | null = null;
  #told: "away" | "to mend" | undefined;
  /** When that was told first. */
  #awayAt = 0;
  #ended: Promise<void> = Promise.resolve();

  constructor(options: RunOptions) {
    this.#options = options;
    const { declaration, logger } = options;
    this.#notices = new Notices({ name: declaration.name, where: declaration.broker.where, logger });
    this.#writing = new Writing({ ...options, signal: this.#stopping.signal });
  }

  /** And what comes in can be written: else the alert of a broker that is away is the one that says so. */
  get connected(): boolean {
    return this.#receiver !== undefined && !this.#isUnproven && !this.#writing.refused;
  }

  /** Why nothing comes in; null while it does. */
  get trouble(): string | null {
    return this.#trouble ?? this.#writing.trouble;
  }

  /** One attempt to connect. Errors: `ConfigurationError`; whatever else keeps it from connecting is told, and tried again by the loop. */
  open(): Promise<void> {
    // The start goes on while a broker is slow to answer; nobody opens it twice.
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    const { name, service, broker } = this.#options.declaration;
    try {
      this.#receiver = await broker.openReceiver({
        name,
        service,
        signal: this.#stopping.signal,
        onTrouble: (error) => this.#away(error),
        onNotice: (error) => this.#notices.note(error),
        again: this.#wasOpen,
      });
      this.#wasOpen = true;
      this.#isUnproven = this.#told !== undefined;
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      this.#away(error);
    }
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** Writes and acknowledges what it has begun to write, and closes. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
    await this.#opening?.catch(() => undefined);
    await this.#close();
    this.#notices.tellRest();
  }

  /** Drops everything: another one may run it already. */
  async abandon(): Promise<void> {
    this.#abandoned.abort();
    await this.stop();
  }

  async #run(): Promise<void> {
    /** Since something came last. */
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      try {
        if (this.#receiver === undefined) await this.open();
        if (this.#receiver !== undefined) {
          await this.#drain(this.#receiver, () => {
            failures = 0;
          });
        }
      } catch (error) {
        if (error instanceof ClaimLostError) {
          this.#options.onLost();
          break;
        }
        this.#away(error);
      }
      await this.#close();
      if (this.#stopping.signal.aborted) break;
      failures += 1;
      await wait(delayMs(again, failures), undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
    await this.#close();
  }

  /**
   * Until it is to stop, or the connection is lost. The statement that writes a batch goes out before the batch before it is acknowledged, so that the
   * database does not wait for the broker; that one is on disk by then.
   */
  async #drain(receiver: Receiver, onMessages: () => void): Promise<void> {
    const { signal } = this.#stopping;
    /** Written, and not acknowledged yet. */
    let written: Batch | undefined;
    let batch = await this.#take(receiver);
    while (!signal.aborted) {
      if (batch.incoming.length === 0) {
        batch = await this.#take(receiver);
        continue;
      }
      onMessages();
      const writing = this.#writing.write(batch);
      // Its error is met below.
      writing.catch(() => undefined);
      // The statement goes out before anything else is done.
      await turn();
      const beside = await this.#beside(receiver, written, writing);
      await writing;
      if (this.#abandoned.signal.aborted) return;
      if ("error" in beside) {
        // Where the connection is lost this fails as well.
        await receiver.acknowledge(batch.incoming);
        throw beside.error;
      }
      written = batch;
      batch = beside.taken;
      if (batch.incoming.length > 0 && !signal.aborted) continue;
      await receiver.acknowledge(written.incoming);
      written = undefined;
    }
  }

  /** While a batch is written: acknowledges the one before, and gathers what comes meanwhile, as far as it fits into one. Never rejects. */
  async #beside(
    receiver: Receiver,
    written: Batch | undefined,
    writing: Promise<void>,
  ): Promise<{ readonly taken: Batch } | { readonly error: unknown }> {
    // What is written is acknowledged then, and waits for no further message.
    const ended = new AbortController();
    const end = () => ended.abort();
    writing.then(end, end);
    this.#stopping.signal.addEventListener("abort", end);
    if (this.#stopping.signal.aborted) end();
    try {
      if (written !== undefined) await receiver.acknowledge(written.incoming);
      const gathering = new Gathering(this.#options.reader);
      for (;;) {
        const left = this.#options.declaration.batchSize - gathering.count;
        await gathering.add(await this.#receive(receiver, left, besideMs, ended.signal));
        if (ended.signal.aborted || gathering.count >= this.#options.declaration.batchSize) {
          return { taken: gathering.batch() };
        }
      }
    } catch (error) {
      return { error };
    } finally {
      this.#stopping.signal.removeEventListener("abort", end);
    }
  }

  async #take(receiver: Receiver): Promise<Batch> {
    const { reader, declaration } = this.#options;
    return readBatch(reader, await this.#receive(receiver, declaration.batchSize, waitMs, this.#stopping.signal));
  }

  async #receive(receiver: Receiver, max: number, forMs: number, signal: AbortSignal): Promise<readonly Incoming[]> {
    const asked = performance.now();
    let incoming: readonly Incoming[] = [];
    try {
      incoming = await receiver.receive({ max, waitMs: forMs, signal });
      if (this.#isUnproven && !signal.aborted) this.#back();
    } catch (error) {
      // A connection that is lost in this moment may not say so again.
      if (!this.#stopping.signal.aborted && !isOf(signal, error)) throw error;
    }
    if (incoming.length === 0 && !signal.aborted && performance.now() - asked < restMs) {
      await wait(restMs, undefined, { signal }).catch(() => undefined);
    }
    return incoming;
  }

  /** What was told of is over: it has given something, or has waited for it without being lost. */
  #back(): void {
    this.#isUnproven = false;
    this.#trouble = null;
    this.#told = undefined;
    const { declaration, logger } = this.#options;
    const { name, broker } = declaration;
    const awayMs = Math.round(performance.now() - this.#awayAt);
    const text = `the intake "${name}" is connected to ${broker.where} again, after ${durationInWords(awayMs)}`;
    logger.info(text, { intake: name, awayMs, ...recovered });
  }

  /** Told once, and not for each try; once more where it turns out that waiting alone does not help. */
  #away(error: unknown): void {
    if (this.#stopping.signal.aborted) return;
    const { declaration, logger } = this.#options;
    const { name, broker } = declaration;
    this.#trouble = reasonOf(error);
    const kind = error instanceof ConfigurationError ? "to mend" : "away";
    if (this.#told === kind) return;
    if (this.#told === undefined) this.#awayAt = performance.now();
    this.#told = kind;
    const tries = `it tries again, after ${durationInWords(again.maxMs)} at the latest`;
    // Nothing is said of what waits there: the broker may be away, and its queue may have been deleted.
    const meanwhile =
      kind === "away" ? "What is not stored was not acknowledged" : "Nothing comes in before this is mended";
    const advice = this.#wasOpen ? undefined : neverReached(error);
    const look = advice === undefined ? "" : ` ${advice}.`;
    const what = `is not connected to ${broker.where}: ${this.#trouble}`;
    logger.warn(`the intake "${name}" ${what}.${look} ${meanwhile}; ${tries}`, {
      intake: name,
      broker: broker.kind,
      where: broker.where,
      reason: this.#trouble,
    });
  }

  async #close(): Promise<void> {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    await receiver?.close();
  }
}

/** Whether it is no more than that the signal has ended a wait. */
function isOf(signal: AbortSignal, error: unknown): boolean {
  return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === "AbortError"));
}
