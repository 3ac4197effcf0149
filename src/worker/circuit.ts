/**
 * What one reader knows of its circuit breaker, and tells of it: failures are counted in the database, for the whole fleet. A reader whose
 * own policy declares none has one all the same: a newer worker may have declared it, and what it says of the message that is tried is needed.
 *
 * While the circuit is open this reader asks for nothing but at the time that the database told it; so an open circuit costs a statement
 * now and then. Should a report be lost with its process, a failure is not counted, or another message is tried.
 */
import { cleaned } from "../core/clean.js";
import type { Executor } from "../core/database.js";
import { limits } from "../core/limits.js";
import { type Logger, recovered } from "../core/logger.js";
import { count, durationInWords } from "../core/words.js";
import {
  type CircuitChange,
  type CircuitEvent,
  type CircuitReport,
  mostCounted,
  tellCircuit,
} from "../store/circuit.js";
import type { Delivery } from "../store/work.js";
import { clean, failureOf } from "./failure.js";
import type { Ran } from "./run.js";

export interface CircuitOptions {
  readonly name: string;
  readonly subscription: number;
  readonly session: Executor;
  readonly logger: Logger;
  /** It may be time to take messages again. */
  readonly onLook: () => void;
  readonly onBroken: (error: unknown) => void;
}

/** A circuit that is open for long is looked at as often as an idle queue: another worker, an operator or a newer policy may have closed it. */
const lookMs = 1_000;
/** The same is told again after so long: what is tried each second would fill the log of an outage. */
const tellAgainMs = 60_000;

export class Circuit {
  readonly #options: CircuitOptions;
  #reports: CircuitReport[] = [];
  #telling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What the log was told of the circuit that is open. */
  #told: { readonly reason: string | null; readonly at: number } | undefined;

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  /** Nothing is to be taken now. */
  get blocked(): boolean {
    return this.#timer !== undefined;
  }

  /** Everything is told. */
  get idle(): boolean {
    return this.#telling === undefined;
  }

  /** The database said: not before so many milliseconds. */
  block(ms: number): void {
    clearTimeout(this.#timer);
    const look = (): void => {
      this.#timer = undefined;
      this.#options.onLook();
    };
    this.#timer = setTimeout(look, Math.min(lookMs, Math.max(1, ms))).unref();
  }

  /** A delivery was taken and ended; without an event it is told only when it was the one that was tried. `said`: why that one did not succeed. */
  ended({ probe }: Delivery, event?: CircuitEvent, said?: string): void {
    const why = said === undefined ? {} : { said };
    if (probe !== undefined) this.#tell({ ...(event ?? { passed: true }), ...why, probe });
    else if (event !== undefined && ("failed" in event || "open" in event)) this.#tell(event);
  }

  /** Waits until everything is told, and looks no more. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#telling;
  }

  #tell(report: CircuitReport): void {
    const last = this.#reports.at(-1);
    const more = last !== undefined && isCount(last) && isCount(report);
    if (more) this.#reports.splice(-1, 1, { failed: last.failed + report.failed });
    else this.#reports.push(report);
    this.#telling ??= this.#send().finally(() => {
      this.#telling = undefined;
    });
  }

  /** One statement at a time; what comes meanwhile goes together. */
  async #send(): Promise<void> {
    const { session, subscription, onBroken } = this.#options;
    try {
      while (this.#reports.length > 0) {
        const reports = this.#reports;
        this.#reports = [];
        this.#changed(await tellCircuit(session, subscription, reports));
      }
    } catch (error) {
      onBroken(error);
    }
  }

  #changed(change: CircuitChange): void {
    const { changed, openMs, windowMs, failures, probes, reason } = change;
    const { name, logger, onLook } = this.#options;
    if (changed === "closed") {
      const { wasOpenMs, waiting } = change;
      const text = `the circuit of "${name}" is closed again${closedInWords(change)}`;
      logger.info(text, { reader: name, wasOpenMs, waiting, ...recovered });
      this.#told = undefined;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      onLook();
    }
    if (changed !== "opened") return;
    const forMs = openMs ?? lookMs;
    const why =
      reason ??
      (probes ? `probe ${probes} failed as well` : `${failures} runs failed within ${windowMs} ms in the fleet`);
    if (this.#isNew(alike(reason ?? null))) {
      logger.error(`the circuit of "${name}" is open for ${forMs} ms: ${why}`, { reader: name, openMs: forMs });
    }
    this.block(forMs);
  }

  #isNew(reason: string | null): boolean {
    const now = performance.now();
    if (this.#told?.reason === reason && now - this.#told.at < tellAgainMs) return false;
    this.#told = { reason, at: now };
    return true;
  }
}

/** " after 1 min 3 s; 312 messages wait". Nothing of a database whose functions are older. */
function closedInWords({ wasOpenMs, waiting }: CircuitChange): string {
  if (typeof wasOpenMs !== "number" || typeof waiting !== "number") return "";
  const many = waiting >= mostCounted ? `${count(mostCounted)} messages or more wait` : counted(waiting);
  return ` after ${durationInWords(wasOpenMs)}; ${many}`;
}

function counted(waiting: number): string {
  return waiting === 1 ? "1 message waits" : `${count(waiting)} messages wait`;
}

/** A reason without what differs from message to message: numbers and ids. */
function alike(reason: string | null): string | null {
  return reason?.replace(/[\da-f]*\d[\da-f]*/gi, "0") ?? null;
}

function isCount(report: CircuitReport): report is { readonly failed: number } {
  return "failed" in report && report.probe === undefined;
}

/** Why a run did not succeed, in the words of what it called; undefined where that says nothing about the other side. A relay speaks for itself. */
export function saidBy(ran: Ran, relayed: boolean): string | undefined {
  if (ran.kind !== "ended" || ran.cancelled === true || ran.error === undefined) return undefined;
  const { circuit, end } = ran;
  const decided = end.outcome === "postponed" || end.outcome === "rejected";
  const counts = circuit === undefined ? decided : "failed" in circuit;
  // What opens it says why by itself.
  if (!counts) return undefined;
  const { name, code, message } = failureOf(ran.error);
  const text = decided || relayed ? message : `${code ?? name}: ${message}`;
  return clean(cleaned(text), limits.issueLength);
}

/** What a run means for the circuit: a success, what it says, or nothing. */
export function eventOf(ran: Ran): CircuitEvent | undefined {
  if (ran.kind === "succeeded" || ran.kind === "committed") return { succeeded: true };
  return ran.kind === "ended" ? ran.circuit : undefined;
}
