/** Lines that scroll, and below them a block that is redrawn in place where somebody sees it. */
import type { Io } from "../io.js";

const up = (lines: number): string => (lines === 0 ? "" : `\u001b[${lines}A\r\u001b[J`);
/** Long lines of the block are cut by the terminal instead of wrapped, so that its height is known. */
const [cut, wrap] = ["\u001b[?7l", "\u001b[?7h"];

export class Screen {
  readonly #io: Io;
  readonly #rows: () => number;
  #block: readonly string[] = [];
  #drawn = 0;

  constructor(io: Io, rows: () => number) {
    this.#io = io;
    this.#rows = rows;
  }

  /** Without a terminal a block would be printed again and again. */
  get redraws(): boolean {
    return this.#io.terminal;
  }

  line(text: string): void {
    this.#draw(`${text}\n`);
  }

  block(text: string): void {
    this.#block = text.trimEnd().split("\n");
    this.#draw("");
  }

  /** Takes the block away. */
  end(): void {
    this.#block = [];
    this.#draw("");
  }

  #draw(above: string): void {
    if (!this.redraws) {
      this.#io.out(above);
      return;
    }
    const shown = this.#block.slice(0, Math.max(0, this.#rows() - 2));
    const below = shown.length === 0 ? "" : `${cut}${shown.map((line) => `${line}\n`).join("")}${wrap}`;
    this.#io.out(`${up(this.#drawn)}${above}${below}`);
    this.#drawn = shown.length;
  }
}
