/**
 * Finds statements that begin or end a transaction or set and use savepoints, in SQL that a user sends on a transaction of the
 * library.
 *
 * It reads only as much SQL as that needs: comments, quoted text and dollar quotes are skipped, and the first words of each
 * statement decide. It is a guard against mistakes. What it cannot see (a function of another language, a procedure) is caught
 * by the server or by `now()` having moved.
 */

export type Control =
  | { readonly does: "end"; readonly statement: string }
  | { readonly does: "savepoint" | "rollback to" | "release"; readonly name: string };

/** Makes a transaction one that cannot write: after its first query, which brings no rows, that cannot be taken back. */
export const readOnlyForGood: readonly string[] = ["set transaction read only", "select where false"];

/** One token that cannot hold a statement separator, or the separator itself. */
const token =
  /--[^\n]*|\/\*|"(?:[^"]|"")*"?|[eE]'(?:[^'\\]|\\[\s\S]|'')*'?|'(?:[^']|'')*'?|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|;|\s+|[\s\S]/gy;

/** The longest statement of interest: ROLLBACK WORK TO SAVEPOINT name. */
const wordsOfInterest = 5;

/** Block comments nest in PostgreSQL. Returns the index behind the end of the one that starts at `from`. */
function endOfComment(sql: string, from: number): number {
  let depth = 0;
  const mark = /\/\*|\*\//g;
  mark.lastIndex = from;
  for (let found = mark.exec(sql); found !== null; found = mark.exec(sql)) {
    depth += found[0] === "/*" ? 1 : -1;
    if (depth === 0) return mark.lastIndex;
  }
  return sql.length;
}

/** The first words of every statement in `sql`: keywords and names in upper case, quoted names with their quotes. */
function firstWords(sql: string): string[][] {
  const statements: string[][] = [];
  let words: string[] = [];
  let open = true;
  let previous = "";
  token.lastIndex = 0;
  for (let found = token.exec(sql); found !== null; found = token.exec(sql)) {
    const text = found[0];
    if (text === ";") {
      statements.push(words);
      words = [];
      open = true;
    } else if (text === "/*") {
      token.lastIndex = endOfComment(sql, found.index);
    } else if (text.length > 1 && text.startsWith("$") && text.endsWith("$")) {
      const end = sql.indexOf(text, token.lastIndex);
      token.lastIndex = end === -1 ? sql.length : end + text.length;
      open = false;
    } else if (/^["A-Za-z_\u0080-\uffff]/.test(text) && !/^[eE]'/.test(text)) {
      const word = text.startsWith('"') ? text : text.toUpperCase();
      // The body of a function in standard SQL holds separators of its own; what follows it in the same string is not read.
      if (words[0] === "CREATE" && previous === "BEGIN" && word === "ATOMIC") break;
      previous = word;
      if (open && words.length < wordsOfInterest) words.push(word);
    } else if (!text.startsWith("--") && text.trim() !== "") open = false;
  }
  statements.push(words);
  return statements;
}

/** PostgreSQL folds names without quotes to lower case. */
function nameOf(word: string | undefined): string {
  if (word === undefined) return "";
  return word.startsWith('"') ? word.slice(1, -1).replaceAll('""', '"') : word.toLowerCase();
}

function withoutWord(words: readonly string[], optional: readonly string[]): readonly string[] {
  return optional.includes(words[0] ?? "") ? words.slice(1) : words;
}

function controlOf([first, ...rest]: readonly string[]): Control | undefined {
  switch (first) {
    case "BEGIN":
    case "COMMIT":
    case "END":
    case "ABORT":
      return { does: "end", statement: rest[0] === "PREPARED" ? `${first} PREPARED` : first };
    case "START":
    case "PREPARE":
      return rest[0] === "TRANSACTION" ? { does: "end", statement: `${first} TRANSACTION` } : undefined;
    case "SAVEPOINT":
      return { does: "savepoint", name: nameOf(rest[0]) };
    case "RELEASE":
      return { does: "release", name: nameOf(withoutWord(rest, ["SAVEPOINT"])[0]) };
    case "ROLLBACK": {
      const [to, ...target] = withoutWord(rest, ["WORK", "TRANSACTION"]);
      if (to !== "TO") return { does: "end", statement: first };
      return { does: "rollback to", name: nameOf(withoutWord(target, ["SAVEPOINT"])[0]) };
    }
    default:
      return undefined;
  }
}

/** The statements in `sql`, in order, that concern the transaction itself. */
export function controlsIn(sql: string): readonly Control[] {
  // Most statements hold none of the words; the exact reading is for those that do.
  if (!/\b(begin|commit|end|abort|start|prepare|rollback|savepoint|release)\b/i.test(sql)) return [];
  return firstWords(sql).flatMap((words) => controlOf(words) ?? []);
}
