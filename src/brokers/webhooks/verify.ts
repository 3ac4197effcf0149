/** `verifyWebhook`: for who receives webhooks without an intake. */
import { ContractViolationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import { show } from "../../core/show.js";
import { type Key, readKeys } from "./keys.js";
import { type HeadersProblem, headersProblem, isSigned, type Signed } from "./signature.js";

/** How old, or how far ahead, the timestamp of a webhook may be. */
export const toleranceField = {
  type: "duration",
  min: 1_000,
  max: 3_600_000,
  default: 300_000,
  doc: "How far the timestamp of a webhook may be from the clock here, before or after it; larger lets a recorded webhook be sent again for longer, smaller refuses senders whose clock is off",
} as const;

export const verifyFields = {
  secrets: {
    type: "custom",
    required: true,
    words: "a list of 1 to 10 keys, whsec_… or whpk_…",
    doc: "The keys that a webhook may be signed with; during a change of keys the old one and the new one",
    check: (value: unknown, path: string): readonly Key[] => readKeys(value, path, "verifies"),
  },
  toleranceMs: toleranceField,
} as const satisfies Fields;

/** `Headers`, or the headers of a request of node:http. */
export type WebhookHeaders =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface VerifyOptions {
  /** `whsec_…` or `whpk_…`. */
  readonly secrets: readonly string[];
  /** Default 5 minutes. */
  readonly toleranceMs?: number;
}

/** What a signature vouches for, beside the body. */
export interface VerifiedWebhook {
  /** The same at each attempt: what has been done for it is not done again. */
  readonly id: string;
  /** When it was sent, this time. */
  readonly sentAt: Date;
}

/**
 * Verifies a webhook of Standard Webhooks 1.0.0: signature, and age. The body is the one that came, byte for byte, not parsed and written again.
 *
 * Duplicates: a webhook that comes again verifies again; keep its `id` and look there first.
 * Errors: `ContractViolationError` with the code `PH_WEBHOOK_UNVERIFIED`: answer 401, and tell nothing of it. `ConfigurationError` for the options.
 */
export function verifyWebhook(
  { headers, body }: { readonly headers: WebhookHeaders; readonly body: string | Uint8Array },
  options: VerifyOptions,
): VerifiedWebhook {
  const { secrets, toleranceMs }: OptionsOf<typeof verifyFields> = checkOptions(
    options,
    verifyFields,
    "verifyWebhook()",
  );
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  if (!(bytes instanceof Uint8Array)) refuse(`its body is ${show(body)}, not text or bytes`);
  const signed = signedOf((name) => headerOf(headers, name));
  const problem = headersProblem(signed, toleranceMs, Date.now());
  if (problem !== undefined) refuse(problemTexts[problem]);
  if (!isSigned(secrets, signed, bytes)) refuse("no signature of it is of one of the secrets");
  return { id: signed.id, sentAt: new Date(Number(signed.timestamp) * 1000) };
}

const problemTexts: Readonly<Record<HeadersProblem, string>> = {
  unsigned: "its webhook-id, its webhook-timestamp or its webhook-signature is missing, or the last is no signature",
  id: "its webhook-id is too long, or has a dot, a space or a letter that is not ASCII in it",
  time: "its webhook-timestamp is no number of seconds",
  old: "its webhook-timestamp is too old",
  ahead: "its webhook-timestamp is too far ahead",
};

function refuse(problem: string): never {
  throw new ContractViolationError("PH_WEBHOOK_UNVERIFIED", `The webhook is not accepted: ${problem}.`);
}

export function signedOf(header: (name: string) => string | null | undefined): Signed {
  return {
    id: header("webhook-id") ?? "",
    timestamp: header("webhook-timestamp") ?? "",
    signature: header("webhook-signature") ?? "",
  };
}

function headerOf(headers: WebhookHeaders, name: string): string | undefined {
  if (typeof headers.get === "function") return headers.get(name) ?? undefined;
  for (const [own, value] of Object.entries(headers)) {
    if (own.toLowerCase() === name) return typeof value === "string" ? value : undefined;
  }
  return undefined;
}
