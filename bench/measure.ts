/**
 * How everything here is measured: limit and product alternate in the same run on the same server, after a warm-up of each; the
 * figure is the median of the rounds, beside the smallest and the largest. Machines are noisy: the ratio is what counts.
 */
import type { Bench } from "./bench.js";

export interface Round {
  readonly value: number;
  /** How long was measured; preparations are not part of it. */
  readonly seconds: number;
}

/** One thing that can be measured again and again. */
export interface Probe<R = Round> {
  /** Measures for at least so long. */
  round(ms: number): Promise<R>;
  close?(): Promise<void>;
}

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the limit of the same run reached, in the same unit; null where the bar is a number of its own. */
  readonly limit: number | null;
  /** The median of the ratios of the rounds, which need not be value / limit. */
  readonly ratio: number | null;
  readonly min: number;
  readonly max: number;
  /** Rounds, or single measurements. */
  readonly n: number;
  /** How long the product was measured, in all of them together. */
  readonly seconds: number;
  /** What must hold, in words; null where there is no bar. */
  readonly bar: string | null;
  readonly holds: boolean | null;
}

export interface Bar {
  /** At least this much of the limit, or at most this many times it. */
  readonly least?: number;
  readonly most?: number;
  /** Or, without a limit: at most this much. */
  readonly atMost?: number;
}

export interface Measured {
  readonly name: string;
  readonly unit: string;
  readonly rounds: readonly Round[];
  readonly limits?: readonly Round[];
  readonly bar: Bar;
  /** Where the rounds are no pairs. Default: the median of the ratios of each round to its limit. */
  readonly ratio?: number;
  /** Which of the rounds is the figure. Default: their median. */
  readonly of?: (values: readonly number[]) => number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function worst(values: readonly number[]): number {
  return Math.max(...values);
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Warms both up, then alternates limit and product. */
export async function alternate<L, P>(
  bench: Bench,
  limit: Probe<L>,
  product: Probe<P>,
): Promise<{ readonly limits: readonly L[]; readonly rounds: readonly P[] }> {
  const limits: L[] = [];
  const rounds: P[] = [];
  bench.progress("warm-up");
  await limit.round(bench.warmupMs);
  await product.round(bench.warmupMs);
  while (rounds.length < bench.rounds) {
    bench.progress(`round ${rounds.length + 1} of ${bench.rounds}`);
    limits.push(await limit.round(bench.roundMs));
    rounds.push(await product.round(bench.roundMs));
  }
  await limit.close?.();
  await product.close?.();
  return { limits, rounds };
}

export function figure({ name, unit, rounds, limits, bar, of = median, ...given }: Measured): Figure {
  const values = rounds.map((round) => round.value);
  const value = of(values);
  const limit = limits === undefined ? null : median(limits.map((round) => round.value));
  // Paired by round, so that a slow minute of the machine hits both.
  const paired = limits === undefined ? null : median(values.map((one, i) => one / (limits[i]?.value ?? Number.NaN)));
  const ratio = given.ratio ?? paired;
  return {
    name,
    value,
    unit,
    limit,
    ratio,
    min: Math.min(...values),
    max: Math.max(...values),
    n: values.length,
    seconds: rounds.reduce((sum, round) => sum + round.seconds, 0),
    bar: inWords(bar),
    holds: holds(bar, value, ratio),
  };
}

function inWords({ least, most, atMost }: Bar): string {
  if (least !== undefined) return `≥ ${least} of the limit`;
  if (most !== undefined) return `≤ ${most} × the limit`;
  return `≤ ${atMost}`;
}

function holds({ least, most, atMost }: Bar, value: number, ratio: number | null): boolean {
  if (least !== undefined) return ratio !== null && ratio >= least;
  if (most !== undefined) return ratio !== null && ratio <= most;
  return atMost !== undefined && value <= atMost;
}

/** Repeats `once` for at least `ms`: operations per second. */
export async function rate(ms: number, once: () => Promise<number>): Promise<Round> {
  const begun = performance.now();
  let operations = 0;
  while (performance.now() - begun < ms) operations += await once();
  const seconds = (performance.now() - begun) / 1_000;
  return { value: operations / seconds, seconds };
}

/** The same by so many at once, each for at least `ms`. */
export async function rateOfMany(ms: number, many: readonly (() => Promise<number>)[]): Promise<Round> {
  const rounds = await Promise.all(many.map((once) => rate(ms, once)));
  return {
    value: rounds.reduce((sum, round) => sum + round.value, 0),
    seconds: worst(rounds.map((round) => round.seconds)),
  };
}
