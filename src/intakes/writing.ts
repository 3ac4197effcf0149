/**
 * Writes what was read, in pieces that fit into a statement, until it is written: a database that is away and a queue that is full are waited for,
 * and meanwhile nothing is acknowledged.
 */
import { setTimeout as wait } from "node:timers/promises";
import { reasonOf } from "../core/clean.js";
import type { Executor } from "../core/database.js";
import { BacklogFullError, DatabaseUnavailableError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { type Holding, takeIn } from "../store/intake.js";
import type { IntakeDeclaration } from "./options.js";
import type { Reading } from "./reading.js";

export interface WritingOptions {
  readonly declaration: IntakeDeclaration;
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
  async write(readings: readonly Reading[]): Promise<void> {
    for (const piece of pieces(readings)) await this.#persist(piece);
  }

  async #persist(piece: readonly Reading[]): Promise<void> {
    let pause: number = pauseMs.first;
    for (;;) {
      try {
        await this.#take(piece);
        this.#trouble = null;
        return;
      } catch (error) {
        const ms = patienceFor(error, pause);
        if (ms === undefined || this.#options.signal.aborted) throw error;
        this.#note(error);
        await wait(ms, undefined, { signal: this.#options.signal }).catch(() => undefined);
        pause = Math.min(pauseMs.longest, pause * 2);
      }
    }
  }

  async #take(piece: readonly Reading[]): Promise<void> {
    const { executor, holding, onWritten } = this.#options;
    const messages = piece.flatMap((one) => (one.kind === "message" ? [one.message] : []));
    const unfit = piece.flatMap((one) => (one.kind === "invalid" ? [one.unfit] : []));
    const { written } = await takeIn(executor, holding, messages, unfit, piece.length - messages.length - unfit.length);
    if (written > 0) onWritten(new Set(messages.map(({ channel }) => channel)));
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

function* pieces(readings: readonly Reading[]): Generator<readonly Reading[]> {
  let from = 0;
  let bytes = 0;
  for (const [i, reading] of readings.entries()) {
    const size =
      reading.kind === "message"
        ? reading.message.json.length
        : reading.kind === "invalid"
          ? reading.unfit.body.length
          : 0;
    if (bytes + size > pieceBytes && i > from) {
      yield readings.slice(from, i);
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  if (from < readings.length) yield readings.slice(from);
}
