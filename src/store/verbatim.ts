/**
 * Parses the answer of a claim with the payloads as the text that was stored: exact to the last digit of a number that JavaScript cannot hold, and
 * for those who send it on cheaper than to parse it and write it again.
 *
 * The payloads are cut out first. They are the sixth of each message, in the one list of an answer that has lists in it.
 */

const payloadAt = 5;
const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const [openList, closeList, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d] as const;

/** `rowsOf`: the messages of an answer. */
export function parseVerbatim<T>(text: string, rowsOf: (answer: T) => readonly unknown[][]): T {
  const payloads: string[] = [];
  let rest = "";
  let kept = 0;
  let lists = 0;
  /** How many elements of the message that is read are behind; -1 outside of any. */
  let element = -1;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === quote) i = endOfText(text, i) - 1;
    else if (code === openObject && element >= 0) i = endOfValue(text, i) - 1;
    else if (code === openList || code === closeList) {
      lists += code === openList ? 1 : -1;
      element = lists === 2 ? 0 : -1;
    } else if (code === comma && element >= 0) {
      element += 1;
      if (element !== payloadAt) continue;
      const end = endOfValue(text, i + 1);
      // Its number holds its place.
      rest += `${text.slice(kept, i + 1)}${payloads.length}`;
      payloads.push(text.slice(i + 1, end).trim());
      kept = end;
      i = end - 1;
    }
  }
  const answer: T = JSON.parse(`${rest}${text.slice(kept)}`);
  for (const row of rowsOf(answer)) row[payloadAt] = payloads[Number(row[payloadAt])];
  return answer;
}

/** Behind the text whose first quote is at `from`. A quote behind an odd number of backslashes is part of it. */
function endOfText(text: string, from: number): number {
  for (let at = text.indexOf('"', from + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let first = at;
    while (text.charCodeAt(first - 1) === backslash) first -= 1;
    if ((at - first) % 2 === 0) return at + 1;
  }
  return text.length;
}

/** Behind the value that begins at `from`, or after space there: at the comma or bracket that follows it. */
function endOfValue(text: string, from: number): number {
  let depth = 0;
  for (let i = from; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === quote) i = endOfText(text, i) - 1;
    else if (code === openList || code === openObject) depth += 1;
    else if (code === comma && depth === 0) return i;
    else if (code === closeList || code === closeObject) {
      if (depth === 0) return i;
      depth -= 1;
    }
  }
  return text.length;
}
