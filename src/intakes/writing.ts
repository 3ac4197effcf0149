/**
 * Writes what was read, in pieces that fit into a statement, until it is written: a database that is away and a queue that is full are waited for,
 * and meanwhile nothing is acknowledged.
 */
import { setTimeout as wait } from "node:timers/promises";
import type { Incoming } from "../brokers/broker.js";
import { reasonOf } from "../core/clean.js";
import type { Executor } from "../core/database.js";
import { BacklogFullError, DatabaseUnavailableError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { type Holding, type Marked, takeIn, type Unfit } from "../store/intake.js";
import type { IntakeDeclaration } from "./options.js";
import type { Reader, Reading } from "./reading.js";

/** What came, and what became of each when it was read. */
export interface Batch {
  readonly incoming: readonly Incoming[];
  readonly readings: readonly Reading[];
}

export interface WritingOptions {
  readonly declaration: IntakeDeclaration;
  readonly reader: Reader;
  readonly holding: Holding;
  readonly executor: Executor;
  readonly logger: Logger;
  readonly onWritten: (channels: ReadonlySet<number>) => void;
  /** Ends waiting. */
  readonly signal: AbortSignal;
}

/** About so many bytes in one statement. */
const pieceBytes = 8_388_608;
const pauseMs = { first: 100, longest: 5_000 } as const;
/** The longest wait before a full queue is asked again. */
const fullMs = 1_000;

export class Writing {
  readonly #options: WritingOptions;
  #trouble: string | null = null;

  constructor(options: WritingOptions) {
    this.#options = options;
  }

  /** What it waits for; null while it does not. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /**
   * Returns when all of it is on disk.
   *
   * Errors: `ClaimLostError` when another worker runs the intake; what the database refuses for good; and what it waited for when it was to stop.
   */
  async write(batch: Batch): Promise<void> {
    for (const [from, to] of pieces(batch.readings)) await this.#persist(slice(batch, from, to));
  }

  async #persist(piece: Batch): Promise<void> {
    let pause: number = pauseMs.first;
    for (;;) {
      try {
        await this.#take(piece.readings);
        this.#trouble = null;
        return;
      } catch (error) {
        if (isAboutData(error)) return this.#divide(piece, error);
        const ms = patienceFor(error, pause);
        if (ms === undefined || this.#options.signal.aborted) throw error;
        this.#note(error);
        await wait(ms, undefined, { signal: this.#options.signal }).catch(() => undefined);
        pause = Math.min(pauseMs.longest, pause * 2);
      }
    }
  }

  /** Finds the message that the database does not take, so that it holds up no others. In order: what is before it is written first. */
  async #divide(piece: Batch, error: unknown): Promise<void> {
    const count = piece.incoming.length;
    const [only] = piece.incoming;
    if (count > 1 || only === undefined) {
      const half = Math.ceil(count / 2);
      await this.#persist(slice(piece, 0, half));
      return this.#persist(slice(piece, half, count));
    }
    const reading = await this.#options.reader.refused(only, `the database does not take it: ${reasonOf(error)}`);
    // What is kept of it is text and bytes that fit; an error now is not about the message.
    if (piece.readings[0]?.kind !== "message") throw error;
    await this.#persist({ incoming: piece.incoming, readings: [reading] });
  }

  async #take(piece: readonly Reading[]): Promise<void> {
    const { executor, holding, onWritten } = this.#options;
    const messages: Marked[] = [];
    const unfit: Unfit[] = [];
    const channels = new Set<number>();
    for (const one of piece) {
      if (one.kind === "message") {
        messages.push(one.message);
        channels.add(one.message.channel);
      } else if (one.kind === "invalid") unfit.push(one.unfit);
    }
    const { written } = await takeIn(executor, holding, messages, unfit, piece.length - messages.length - unfit.length);
    if (written > 0) onWritten(channels);
  }

  /** Told once for each time that it begins to wait. */
  #note(error: unknown): void {
    const { declaration, logger } = this.#options;
    const reason = reasonOf(error);
    if (this.#trouble === null) {
      logger.warn(`the intake "${declaration.name}" waits, and acknowledges nothing meanwhile: ${reason}`, {
        intake: declaration.name,
        reason,
      });
    }
    this.#trouble = reason;
  }
}

/** How long to wait before it is tried again; undefined where that does not help. */
function patienceFor(error: unknown, pause: number): number | undefined {
  if (error instanceof BacklogFullError) return Math.min(fullMs, Math.max(pauseMs.first, error.facts.retryAfterMs));
  return error instanceof DatabaseUnavailableError && error.retryable ? pause : undefined;
}

/** A data exception, or more than the server can hold in one value: another attempt ends the same. */
function isAboutData(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" && /^(?:22|54)[0-9A-Z]{3}$/.test(code);
}

function slice({ incoming, readings }: Batch, from: number, to: number): Batch {
  return { incoming: incoming.slice(from, to), readings: readings.slice(from, to) };
}

function* pieces(readings: readonly Reading[]): Generator<readonly [from: number, to: number]> {
  let from = 0;
  let bytes = 0;
  for (const [i, reading] of readings.entries()) {
    const size = sizeOf(reading);
    if (bytes + size > pieceBytes && i > from) {
      yield [from, i];
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  if (from < readings.length) yield [from, readings.length];
}

function sizeOf(reading: Reading): number {
  if (reading.kind === "message") return reading.message.json.length;
  return reading.kind === "invalid" ? reading.unfit.body.length : 0;
}
