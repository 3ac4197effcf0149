/** Figures as people read them. */
import type { Figure } from "./measure.js";

const head = ["", "value", "unit", "limit", "ratio", "min … max", "n", "seconds", "bar", "holds"] as const;

function number(value: number | null): string {
  return value === null ? "" : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 0 });
}

function cellsOf(figure: Figure): readonly string[] {
  const { name, value, unit, limit, ratio, min, max, n, seconds, bar, holds } = figure;
  return [
    name,
    number(value),
    unit,
    number(limit),
    number(ratio),
    `${number(min)} … ${number(max)}`,
    number(n),
    seconds.toFixed(1),
    bar ?? "",
    holds === null ? "" : holds ? "yes" : "NO",
  ];
}

export function table(figures: readonly Figure[]): readonly string[] {
  const rows = [head, ...figures.map(cellsOf)];
  const widths = head.map((_, i) => Math.max(...rows.map((cells) => cells[i]?.length ?? 0)));
  return rows.map((cells) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "),
  );
}

/** One figure in a line, for whoever watches. */
export function inShort({ name, value, unit, ratio, holds }: Figure): string {
  const bar = holds === null ? "" : holds ? ", holds" : ", does NOT hold";
  return `${name}: ${number(value)} ${unit}, ratio ${number(ratio)}${bar}`;
}
