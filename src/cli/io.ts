/** Where the command line writes, and what it may assume about who reads. */
import { createInterface } from "node:readline/promises";
import { styleText } from "node:util";

export type Colour = "red" | "green" | "yellow" | "bold" | "dim";

export interface Io {
  out(text: string): void;
  /** Progress and errors. */
  err(text: string): void;
  /** Somebody sees `out`: lines may be painted and overwritten. */
  readonly terminal: boolean;
  /** Somebody sees `err`: a line of progress may be overwritten. */
  readonly watched: boolean;
  /** Somebody can answer a question. */
  readonly answers: boolean;
  ask(question: string): Promise<string>;
}

export function processIo(): Io {
  const { stdin, stdout, stderr, env } = process;
  return {
    out: (text) => stdout.write(text),
    err: (text) => stderr.write(text),
    terminal: stdout.isTTY === true && env.NO_COLOR === undefined && env.TERM !== "dumb",
    watched: stderr.isTTY === true,
    answers: stdin.isTTY === true && stderr.isTTY === true,
    ask: async (question) => {
      const lines = createInterface({ input: stdin, output: stderr });
      try {
        return await lines.question(question);
      } finally {
        lines.close();
      }
    },
  };
}

export function paint(io: Io, colour: Colour, text: string): string {
  // Whether somebody sees it is decided already.
  return io.terminal ? styleText(colour, text, { validateStream: false }) : text;
}

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly right?: true;
}

export interface Cell {
  readonly text: string;
  readonly colour?: Colour | undefined;
}

/** Aligned lines with two spaces between columns; the last column is not padded. */
export function table(io: Io, columns: readonly Column[], rows: readonly (readonly (Cell | string)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === "string" ? { text: cell } : cell)));
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...cells.map((row) => row[i]?.text.length ?? 0)));
  const line = (row: readonly Cell[]): string =>
    columns
      .map(({ right }, i) => {
        const { text, colour } = row[i] ?? { text: "" };
        const width = i === columns.length - 1 && !right ? 0 : (widths[i] ?? 0);
        const padded = right ? text.padStart(width) : text.padEnd(width);
        return colour === undefined ? padded : paint(io, colour, padded);
      })
      .join("  ")
      .trimEnd();
  return `${[line(columns.map(({ title }) => ({ text: title, colour: "dim" }))), ...cells.map(line)].join("\n")}\n`;
}

/** Foreign text on one line, without what a terminal would obey. */
export function oneLine(text: string, most = 200): string {
  const flat = text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").trim();
  return flat.length > most ? `${flat.slice(0, most - 1)}…` : flat;
}
