/**
 * Writes what was read, in pieces that fit into a statement, until it is written: a database that is away and a queue that is full are waited for,
 * and meanwhile nothing is acknowledged.
 */
import { setTimeout as wait } from "node:timers/promises";
import type { Incoming } from "../brokers/broker.js";
import { reasonOf } from "../core/clean.js";
import type { Executor } from "../core/database.js";
import { BacklogFullError, ClaimLostError, DatabaseUnavailableError } from "../core/errors.js";
import { type Logger, recovered } from "../core/logger.js";
import { durationInWords } from "../core/words.js";
import { type Holding, type Marked, type Packed, pack, takeIn, type Unfit } from "../store/intake.js";
import type { Noted } from "./noted.js";
import type { IntakeDeclaration } from "./options.js";
import type { Reader, Reading } from "./reading.js";
import { text } from "./unfit.js";

/** What came, and what is written of it, in pieces that fit into a statement. */
export interface Batch {
  readonly incoming: readonly Incoming[];
  readonly pieces: readonly Piece[];
}

/** The statement is put together ahead, while another one runs, and of what was read nothing else is kept: there is a whole batch of it. */
interface Piece {
  readonly incoming: readonly Incoming[];
  readonly packed: Packed;
  readonly channels: ReadonlySet<number>;
  /** What its invalid messages are, in their order: kinds of `Misfit`. */
  readonly misfits: readonly string[];
  /** The last type that was passed over because no contract has it. */
  readonly skippedType: string | null;
}

export interface WritingOptions {
  readonly declaration: IntakeDeclaration;
  readonly reader: Reader;
  readonly holding: Holding;
  readonly executor: Executor;
  readonly logger: Logger;
  readonly noted: Noted;
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
  #refused = false;
  /** Since when it waits. */
  #waitsAt = 0;

  constructor(options: WritingOptions) {
    this.#options = options;
  }

  /** What it waits for; null while it does not. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Whether the database refuses what it is to write, which no waiting mends: somebody has to be told. */
  get refused(): boolean {
    return this.#refused;
  }

  /**
   * Returns when all of it is on disk.
   *
   * Errors: `ClaimLostError` when another worker runs the intake; and what it waited for when it was to stop.
   */
  async write({ pieces }: Batch): Promise<void> {
    for (const piece of pieces) await this.#persist(piece);
  }

  /**
   * Waits whatever the error is, and with the connection open: a message that is given back comes again at once, and many a broker counts how often it does, and
   * drops it in the end.
   */
  async #persist(piece: Piece): Promise<void> {
    const { signal } = this.#options;
    let pause: number = pauseMs.first;
    for (;;) {
      const error = await this.#failure(piece);
      if (error === undefined) return this.#goesOn();
      if (error instanceof ClaimLostError || signal.aborted) throw error;
      this.#refused = !isPassing(error);
      this.#note(error);
      await wait(patienceFor(error, pause), undefined, { signal }).catch(() => undefined);
      pause = Math.min(pauseMs.longest, pause * 2);
    }
  }

  /** Undefined when it is on disk; else what keeps it from that. */
  async #failure(piece: Piece): Promise<unknown> {
    try {
      await this.#take(piece);
      return undefined;
    } catch (error) {
      return isAboutData(error) ? this.#divided(piece, error) : error;
    }
  }

  async #take({ packed, skippedType, channels, misfits }: Piece): Promise<void> {
    const { executor, holding, noted, onWritten, reader } = this.#options;
    const { written, noted: places, everWritten } = await takeIn(executor, holding, packed);
    if (everWritten === false) noted.noteSkipped(skippedType ?? "", (type) => reader.takenBeside(type));
    if (written > 0) onWritten(channels);
    for (const place of places ?? []) noted.note(misfits[place - 1] ?? "");
  }

  /**
   * Finds the message that the database does not take, so that it holds up no others. In order: what is before it is written first. What is listed of it is text
   * and bytes that fit, and an error then is not about it. Returns as `#failure`.
   */
  async #divided({ incoming }: Piece, error: unknown): Promise<unknown> {
    const { reader } = this.#options;
    const [only] = incoming;
    if (incoming.length > 1 || only === undefined) {
      const half = Math.ceil(incoming.length / 2);
      for (const part of [incoming.slice(0, half), incoming.slice(half)])
        await this.write(await readBatch(reader, part));
      return undefined;
    }
    const reading = await reader.refused(only, `the database does not take it: ${reasonOf(error)}`);
    if (reading === undefined) return error;
    return this.#take(pieceOf(incoming, [reading])).then(
      () => undefined,
      (listing: unknown) => listing,
    );
  }

  #goesOn(): void {
    if (this.#trouble === null) return;
    this.#trouble = null;
    this.#refused = false;
    const { declaration, logger } = this.#options;
    const waitedMs = Math.round(performance.now() - this.#waitsAt);
    const text = `the intake "${declaration.name}" goes on, after ${durationInWords(waitedMs)}`;
    logger.info(text, { intake: declaration.name, waitedMs, ...recovered });
  }

  /** Told once for each time that it begins to wait. */
  #note(error: unknown): void {
    const { declaration, logger } = this.#options;
    const reason = reasonOf(error);
    if (this.#trouble === null) {
      this.#waitsAt = performance.now();
      logger.warn(`the intake "${declaration.name}" waits, and acknowledges nothing meanwhile: ${reason}`, {
        intake: declaration.name,
        reason,
      });
    }
    this.#trouble = reason;
  }
}

/** A database that is away, or a queue that is full. */
function isPassing(error: unknown): boolean {
  return error instanceof BacklogFullError || (error instanceof DatabaseUnavailableError && error.retryable);
}

/** How long to wait before it is tried again. */
function patienceFor(error: unknown, pause: number): number {
  return error instanceof BacklogFullError
    ? Math.min(fullMs, Math.max(pauseMs.first, error.facts.retryAfterMs))
    : pause;
}

/** A data exception, or more than the server can hold in one value: another attempt ends the same. */
function isAboutData(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" && /^(?:22|54)[0-9A-Z]{3}$/.test(code);
}

/** A batch that comes bit by bit, and is read as it comes. */
export class Gathering {
  readonly #reader: Reader;
  readonly #incoming: Incoming[] = [];
  readonly #readings: Reading[] = [];

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  get count(): number {
    return this.#incoming.length;
  }

  /** Reads them one after the other. Never rejects. */
  async add(incoming: readonly Incoming[]): Promise<void> {
    for (const one of incoming) {
      const reading = this.#reader.read(one);
      this.#incoming.push(one);
      this.#readings.push(reading instanceof Promise ? await reading : reading);
    }
  }

  batch(): Batch {
    return batchOf(this.#incoming, this.#readings);
  }
}

/** Never rejects. */
export async function readBatch(reader: Reader, incoming: readonly Incoming[]): Promise<Batch> {
  const gathering = new Gathering(reader);
  await gathering.add(incoming);
  return gathering.batch();
}

function batchOf(incoming: readonly Incoming[], readings: readonly Reading[]): Batch {
  const pieces: Piece[] = [];
  let from = 0;
  let bytes = 0;
  const end = (to: number) => {
    if (to > from) pieces.push(pieceOf(incoming.slice(from, to), readings.slice(from, to)));
    from = to;
    bytes = 0;
  };
  for (const [i, reading] of readings.entries()) {
    const size = sizeOf(reading);
    if (bytes + size > pieceBytes) end(i);
    bytes += size;
  }
  end(readings.length);
  return { incoming, pieces };
}

function pieceOf(incoming: readonly Incoming[], readings: readonly Reading[]): Piece {
  const messages: Marked[] = [];
  const unfit: Unfit[] = [];
  const misfits: string[] = [];
  const channels = new Set<number>();
  let skippedType: string | null = null;
  for (const one of readings) {
    if (one.kind === "message") {
      messages.push(one.message);
      channels.add(one.message.channel);
    } else if (one.kind === "invalid") {
      unfit.push(one.unfit);
      misfits.push(one.misfit);
    } else skippedType = one.type ?? skippedType;
  }
  skippedType = text(skippedType ?? undefined);
  const packed = pack(messages, unfit, readings.length - messages.length - unfit.length, skippedType);
  return { incoming, packed, channels, misfits, skippedType };
}

function sizeOf(reading: Reading): number {
  if (reading.kind === "message") return reading.message.json.length;
  return reading.kind === "invalid" ? reading.unfit.body.length : 0;
}
