/** What a row of the benchmark is, and what it is given. */
import type { Figure } from "./measure.js";

export interface Bench {
  /** A fresh database on the server of this run. */
  database(): Promise<string>;
  readonly rounds: number;
  /** The shortest round. */
  readonly roundMs: number;
  note(text: string): void;
}

export interface Row {
  readonly names: readonly string[];
  /** Only with `--long`. */
  readonly long?: true;
  run(bench: Bench): Promise<readonly Figure[]>;
}
