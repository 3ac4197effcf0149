/**
 * How everything here is measured: limit and product alternate in the same run on the same server, after a warm-up of each; the
 * figure is the median of the rounds, beside the smallest and the largest. Machines are noisy: the ratio is what counts.
 */

/** One thing that can be measured: returns operations per second, or milliseconds where the row says so. */
export interface Probe {
  round(): Promise<number>;
  close?(): Promise<void>;
}

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly limit: number | null;
  readonly ratio: number | null;
  readonly min: number;
  readonly max: number;
  /** Rounds. */
  readonly n: number;
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

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Alternates limit and product; the first round of each is the warm-up and is not counted. */
export async function alternate(limit: Probe, product: Probe, rounds: number): Promise<[number[], number[]]> {
  const limits: number[] = [];
  const products: number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const l = await limit.round();
    const p = await product.round();
    if (round === 0) continue;
    limits.push(l);
    products.push(p);
  }
  await limit.close?.();
  await product.close?.();
  return [limits, products];
}

export function figure(
  name: string,
  unit: string,
  values: readonly number[],
  limits: readonly number[] | null,
  bar: Bar | null,
  seconds: number,
): Figure {
  const value = median(values);
  const limit = limits === null ? null : median(limits);
  // Paired by round, so that a slow minute of the machine hits both.
  const ratio = limits === null ? null : median(values.map((one, i) => one / (limits[i] ?? Number.NaN)));
  return {
    name,
    value,
    unit,
    limit,
    ratio,
    min: Math.min(...values),
    max: Math.max(...values),
    n: values.length,
    seconds,
    bar: bar === null ? null : inWords(bar),
    holds: bar === null ? null : holds(bar, value, ratio),
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

/** Repeats `once` for at least `ms`, and returns operations per second. */
export async function rate(ms: number, once: () => Promise<number>): Promise<number> {
  const begun = performance.now();
  let operations = 0;
  while (performance.now() - begun < ms) operations += await once();
  return (operations / (performance.now() - begun)) * 1_000;
}
