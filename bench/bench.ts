/** What a row of the benchmark is, and what it is given. */
import type { Figure } from "./measure.js";

/** A fresh database on the server of this run. It is dropped with its sessions when the row ends, if not before. */
export interface Place {
  readonly url: string;
  drop(): Promise<void>;
}

export interface Bench {
  database(): Promise<Place>;
  /** Rounds that count, after the warm-up. */
  readonly rounds: number;
  /** The shortest round. */
  readonly roundMs: number;
  readonly warmupMs: number;
  /** A count of messages; a tenth of it with `--quick`, whose figures say nothing. */
  messages(count: number): number;
  /** Whether this figure was asked for; a row need not measure the others. */
  wants(name: string): boolean;
  /** One sentence that stands below the table: what was tuned, what a reader must know. */
  note(text: string): void;
  /** This figure cannot be measured here. */
  skip(name: string, reason: string): void;
  /** Where a long row is. */
  progress(text: string): void;
}

export interface Row {
  readonly names: readonly string[];
  /** Only with `--long`, or by name. */
  readonly long?: true;
  /** Only with `--brokers`, or by name. */
  readonly brokers?: true;
  run(bench: Bench): Promise<readonly Figure[]>;
}
