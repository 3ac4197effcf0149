/** The issues of a schema, whatever the library made of them, as plain short data that can be stored and shown. */
import { showPath } from "../core/json.js";
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";

export interface Issue {
  /** `lines[3].price`; empty for the payload as a whole. */
  readonly path: string;
  readonly message: string;
}

/** Never throws: the issues come from foreign code. */
export function readIssues(issues: unknown): readonly Issue[] {
  if (!Array.isArray(issues)) return [{ path: "", message: `the schema reported ${show(issues)} as its issues` }];
  // Array.from: slice and map of a library's own subclass of Array (ArkType has one) would run its constructor.
  const read = Array.from(issues).slice(0, limits.schemaIssues).map(readIssue);
  return read.length > 0 ? read : [{ path: "", message: "the schema refused it and named no issue" }];
}

function readIssue(issue: unknown): Issue {
  try {
    if (typeof issue !== "object" || issue === null) return { path: "", message: show(issue) };
    const message = "message" in issue && typeof issue.message === "string" ? issue.message : "no message";
    const steps = "path" in issue && Array.isArray(issue.path) ? Array.from(issue.path) : [];
    return { path: showPath(steps.map(readStep)), message: message.slice(0, limits.issueLength) };
  } catch {
    return { path: "", message: "an issue that cannot be read" };
  }
}

function readStep(step: unknown): PropertyKey {
  const key: unknown = typeof step === "object" && step !== null && "key" in step ? step.key : step;
  return typeof key === "string" || typeof key === "number" || typeof key === "symbol" ? key : show(key);
}

/** `to: Invalid input (and 2 more)`. */
export function issuesInWords(issues: readonly Issue[]): string {
  const [first] = issues;
  if (first === undefined) return "no issue was named";
  const text = first.path === "" ? first.message : `${first.path}: ${first.message}`;
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : "";
  return `${text.replace(/[.\s]+$/, "")}${more}`;
}
