/** Numbers and durations as people read them. */

const units = [
  { ms: 86_400_000, name: "d" },
  { ms: 3_600_000, name: "h" },
  { ms: 60_000, name: "min" },
  { ms: 1_000, name: "s" },
] as const;

/** The two largest units that count: "2 h 4 min", "1.5 s", "250 ms", "30 d". Rounded down, never up to a unit it has not reached. */
export function durationInWords(ms: number): string {
  if (ms === 0) return "0 s";
  if (ms < 1_000) return `${ms} ms`;
  if (ms < 60_000) return `${Math.floor(ms / 100) / 10} s`;
  const first = units.findIndex((unit) => ms >= unit.ms);
  const [large, small] = units.slice(first, first + 2);
  if (large === undefined) return `${ms} ms`;
  const head = `${Math.floor(ms / large.ms)} ${large.name}`;
  const rest = small === undefined ? 0 : Math.floor((ms % large.ms) / small.ms);
  return rest === 0 || small === undefined ? head : `${head} ${rest} ${small.name}`;
}

/** A sentence as the part of another: without the full stop at its end. */
export function clause(sentence: string): string {
  return sentence.replace(/(?<!\.)\.\s*$/, "");
}

/** 10000 as "10,000". */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
