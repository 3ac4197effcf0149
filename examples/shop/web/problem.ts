/** Refusals as application/problem+json (RFC 9457), and how what was thrown becomes one. */
import { STATUS_CODES } from "node:http";
import { BacklogFullError, DeadlineError, PosthornError, StoppedError } from "posthorn";
import type { z } from "zod";
import { EmailTaken } from "../features/accounts.js";
import { FormUsed } from "../features/forms.js";
import { UnknownArticle } from "../features/prices.js";

/** What is wrong with one field; `pointer` is a JSON pointer into the body. */
export interface FieldError {
  readonly pointer: string;
  readonly detail: string;
}

export class Problem extends Error {
  readonly status: number;
  readonly errors: readonly FieldError[] | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    detail: string,
    more: { readonly errors?: readonly FieldError[]; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(detail);
    this.status = status;
    this.errors = more.errors;
    this.headers = more.headers ?? {};
  }

  get title(): string {
    return STATUS_CODES[this.status] ?? "Error";
  }

  toJSON(): object {
    const { title, status, message: detail, errors } = this;
    return { title, status, detail, ...(errors ? { errors } : {}) };
  }
}

/** Whatever was thrown, as a problem. What nobody expected is told to the operator, not to the caller. */
export function problemOf(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  if (thrown instanceof UnknownArticle) return new Problem(404, thrown.message);
  if (thrown instanceof EmailTaken) {
    return new Problem(409, thrown.message, { errors: [{ pointer: "#/email", detail: "has an account already" }] });
  }
  if (thrown instanceof FormUsed) return new Problem(422, thrown.message);
  if (thrown instanceof DeadlineError) {
    return new Problem(503, "The answer did not come in time. Try again.", { headers: { "retry-after": "1" } });
  }
  if (thrown instanceof BacklogFullError) {
    const { backlog, retryAfterMs } = thrown.facts;
    const seconds = String(Math.ceil(Number(retryAfterMs) / 1000));
    const detail = `${backlog} wait already, and more would wait for long. Try again in ${seconds} s.`;
    return new Problem(503, detail, { headers: { "retry-after": seconds } });
  }
  if (thrown instanceof StoppedError || (thrown instanceof PosthornError && thrown.retryable)) {
    return new Problem(503, "The shop cannot answer at the moment. Try again.", { headers: { "retry-after": "1" } });
  }
  console.error(thrown);
  return new Problem(500, "The shop made a mistake.");
}

/** The issues of a schema, one for each field. */
export function wrongFields(error: z.ZodError): Problem {
  const errors = error.issues.flatMap((issue) => {
    if (issue.code !== "unrecognized_keys") return [{ pointer: pointerTo(issue.path), detail: issue.message }];
    return issue.keys.map((key) => ({ pointer: pointerTo([...issue.path, key]), detail: "is not a known field" }));
  });
  return new Problem(422, "The body does not have the right fields.", { errors });
}

function pointerTo(path: readonly PropertyKey[]): string {
  const steps = path.map((step) => String(step).replaceAll("~", "~0").replaceAll("/", "~1"));
  return `#${steps.map((step) => `/${encodeURIComponent(step)}`).join("")}`;
}
