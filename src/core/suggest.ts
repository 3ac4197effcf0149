/** "Did you mean": the nearest known word to a mistyped one. */

const longest = 80;

/** How many letters must be inserted, removed or replaced to turn one word into the other. */
export function distance(from: string, to: string): number {
  let above = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row += 1) {
    const line = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (above[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      line.push(Math.min(replaced, (above[column] ?? 0) + 1, (line[column - 1] ?? 0) + 1));
    }
    above = line;
  }
  return above[to.length] ?? 0;
}

/** The nearest of the known words, or undefined where none is near enough to be meant. */
export function suggest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > longest) return undefined;
  const wanted = word.toLowerCase();
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const steps = distance(wanted, candidate.toLowerCase());
    if (steps < least) {
      best = candidate;
      least = steps;
    }
  }
  return best;
}

/** The tail of a message: ` Did you mean "retry"? Known are: alerts, retry.` */
export function suggestion(word: string, known: readonly string[]): string {
  const near = suggest(word, known);
  return near === undefined ? ` ${listOf(known)}` : ` Did you mean "${near}"? ${listOf(known)}`;
}

export function listOf(known: readonly string[]): string {
  return known.length === 0 ? "None are known here." : `Known are: ${known.join(", ")}.`;
}
