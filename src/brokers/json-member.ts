/**
 * The text of one member of a JSON object, as it was written: its numbers keep all their digits, its strings their escapes, and nothing is as deep as
 * a stack is high. The text must be one that `JSON.parse` accepts. Of several members with the name the last counts, as there.
 */
export function memberText(json: string, name: string): string | undefined {
  let depth = 0;
  /** The name of the member at depth 1 that is being read. */
  let member: string | undefined;
  let from = 0;
  let found: string | undefined;
  for (let at = 0; at < json.length; at += 1) {
    const char = json[at];
    if (char === '"') {
      const opening = at;
      at = closingQuote(json, opening);
      if (depth === 1 && member === undefined) member = String(JSON.parse(json.slice(opening, at + 1)));
    } else if (char === "{" || char === "[") {
      depth += 1;
    } else if (char === ":") {
      if (depth === 1) from = at + 1;
    } else if (char === "," || char === "}" || char === "]") {
      if (depth === 1) {
        if (member === name) found = json.slice(from, at).trim();
        member = undefined;
      }
      if (char !== ",") depth -= 1;
    }
  }
  return found;
}

function closingQuote(json: string, opening: number): number {
  for (let at = json.indexOf('"', opening + 1); at >= 0; at = json.indexOf('"', at + 1)) {
    let escapes = 0;
    while (json[at - 1 - escapes] === "\\") escapes += 1;
    if (escapes % 2 === 0) return at;
  }
  return json.length;
}
