/**
 * Values in the text of a statement: sent so, in one message of the protocol, it costs the server a third less than with parameters, and a function's
 * own parameters still give the types.
 */
import type { Statement } from "../core/database.js";

/**
 * A call of one of our functions, with its arguments in the text where they can be, else as the parameters of `text`. `column` is how the result is
 * called, and what it is read as.
 */
export function calling(
  call: { readonly name: string; readonly column: string; readonly text: string },
  values: readonly (string | number | null)[],
): Statement {
  const literals = literalsOf(values);
  return literals === undefined
    ? { text: call.text, params: values }
    : { text: `select posthorn.${call.name}(${literals})${call.column}` };
}

/** Beyond it reading the text costs more than the parameters. */
const longest = 8_192;

/**
 * Numbers and texts as literals of SQL, separated by commas; undefined where one of them is to be a parameter. Of all that a literal can hold only
 * the quote has a meaning here, and it is doubled: a backslash has one by a setting of the session, and a null character ends a statement.
 */
export function literalsOf(values: readonly (string | number | null)[]): string | undefined {
  let literals = "";
  for (const value of values) {
    if (literals !== "") literals += ", ";
    if (value === null) literals += "null";
    else if (typeof value === "number") literals += `'${value}'`;
    else if (value.length > longest || value.includes("\\") || value.includes("\0")) return undefined;
    else literals += value.includes("'") ? `'${value.replaceAll("'", "''")}'` : `'${value}'`;
  }
  return literals;
}
