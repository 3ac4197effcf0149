/** From what was said to what can be written: kind, options, schema, key, headers. Synchronous as long as the schema is. */
import { type Prepared, prepare } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { requireKind, type Verb } from "../contracts/require-kind.js";
import { ContractViolationError, PayloadTooLargeError } from "../core/errors.js";
import { toJson } from "../core/json.js";
import { limits } from "../core/limits.js";
import { checkOptions, type Fields } from "../core/options.js";
import { isPlain, quote, show } from "../core/show.js";
import type { Extras } from "../store/publish.js";
import { causeHeader } from "./cause.js";
import { type ExtrasOf, encodeExtras, extraOptions } from "./extras.js";

/** A checked message that does not know its contract's ids yet. */
export interface Said {
  readonly contract: AnyContract;
  readonly json: string;
  readonly key: string | null;
  readonly headers: string | null;
  /** What was said beside the payload; undefined for most. */
  readonly extras: Extras | undefined;
}

const headersField = {
  type: "custom",
  doc: "Facts about the message that are not part of it",
  words: "an object of strings",
  check: checkHeaders,
} as const;

/** The options of `send` and `publish`, as data. */
export const sayFields = {
  send: { headers: headersField, ...extraOptions },
  publish: { headers: headersField },
} as const satisfies Record<string, Fields>;

/** Checks and encodes one message. Throws for what is wrong; returns a promise only when the schema is asynchronous. */
export function say(
  kind: "command" | "event",
  verb: Verb,
  contract: unknown,
  payload: unknown,
  options: unknown,
): Said | Promise<Said> {
  const checked = requireKind(contract, kind, verb);
  const { headers, extras: extrasOf } = encodeOptions(kind, verb, checked, options);
  const extras = extrasOf?.(payload);
  const prepared = prepare(checked, payload);
  return prepared instanceof Promise
    ? prepared.then((late) => asSaid(checked, late, headers, extras))
    : asSaid(checked, prepared, headers, extras);
}

const nothing = { headers: null, extras: undefined };

function asSaid(
  contract: AnyContract,
  { json, key }: Prepared,
  headers: string | null,
  extras: Extras | undefined,
): Said {
  return { contract, json, key, headers, extras };
}

/** The options of a call, which are the same for all its messages. `extras` encodes what a message has beside its payload; undefined for nothing. */
export function encodeOptions(
  kind: "command" | "event",
  verb: Verb,
  { name }: AnyContract,
  options: unknown,
): { readonly headers: string | null; readonly extras: ExtrasOf | undefined } {
  if (options === undefined) return nothing;
  const path = `${verb}()`;
  if (kind === "event") {
    return { headers: encodeHeaders(checkOptions(options, sayFields.publish, path).headers), extras: undefined };
  }
  const { headers, ...extras } = checkOptions(options, sayFields.send, path);
  return { headers: encodeHeaders(headers), extras: encodeExtras(extras, name, path) };
}

function encodeHeaders(headers: Readonly<Record<string, string>> | undefined): string | null {
  if (headers === undefined || Object.keys(headers).length === 0) return null;
  const { json } = toJson(headers, "headers");
  const bytes = Buffer.byteLength(json);
  if (bytes <= limits.headersBytes) return json;
  throw new PayloadTooLargeError(
    "PH_PAYLOAD_TOO_LARGE",
    `The headers have ${bytes} bytes as JSON; ${limits.headersBytes} are allowed. Put large facts into the payload.`,
    { bytes, maxBytes: limits.headersBytes },
  );
}

/** A plain object: a Map, or the Headers of a request, has no properties of its own and would be dropped in silence. */
function checkHeaders(value: unknown, path: string): Readonly<Record<string, string>> {
  const must = `${path} must be a plain object whose values are strings`;
  const entries = entriesOf(value, path);
  if (entries === undefined) {
    const iterable = typeof value === "object" && value !== null && Symbol.iterator in value && !Array.isArray(value);
    const hint = iterable ? " Use Object.fromEntries(…)." : "";
    throw new ContractViolationError("PH_PAYLOAD_NOT_JSON", `${must}, got ${show(value)}.${hint}`, { path });
  }
  const headers: [string, string][] = [];
  for (const [name, header] of entries) {
    if (name.startsWith(causeHeader)) {
      const message = `${path} has the name ${quote(name)}, which the library keeps for itself. Choose another.`;
      throw new ContractViolationError("PH_PAYLOAD_NOT_JSON", message, { path, header: causeHeader });
    }
    if (typeof header !== "string") {
      const message = `${must}; the value of ${quote(name)} is ${show(header)}.`;
      const facts = { path, header: name.slice(0, limits.nameLength) };
      throw new ContractViolationError("PH_PAYLOAD_NOT_JSON", message, facts);
    }
    headers.push([name, header]);
  }
  return Object.fromEntries(headers);
}

function entriesOf(value: unknown, path: string): [string, unknown][] | undefined {
  try {
    return typeof value === "object" && value !== null && isPlain(value) ? Object.entries(value) : undefined;
  } catch (cause) {
    const message = `${path} cannot be read: a property of it throws. Pass a plain object of strings.`;
    throw new ContractViolationError("PH_PAYLOAD_NOT_JSON", message, { path }, cause);
  }
}
