/** From what was said to what can be written: kind, options, schema, key, headers. Synchronous as long as the schema is. */
import { type Prepared, prepare } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { requireKind, type Verb } from "../contracts/require-kind.js";
import { ContractViolationError, PayloadTooLargeError } from "../core/errors.js";
import { toJson } from "../core/json.js";
import { limits } from "../core/limits.js";
import { checkOptions, type Fields } from "../core/options.js";
import { isPlain, quote, show } from "../core/show.js";

/** A checked message that does not know its contract's ids yet. */
export interface Said {
  readonly contract: AnyContract;
  readonly json: string;
  readonly key: string | null;
  readonly headers: string | null;
}

const headersField = {
  type: "custom",
  doc: "Facts about the message that are not part of it",
  words: "an object of strings",
  check: checkHeaders,
} as const;
const planned = (doc: string) => ({ type: "planned", doc }) as const;

/** The options of `send` and `publish`, as data. */
export const sayFields = {
  send: {
    headers: headersField,
    delayMs: planned("Begin no earlier than after this time"),
    runAt: planned("Begin no earlier than at this time"),
    priority: planned("The class of urgency"),
    dedupe: planned("Recognise the same request by a key"),
    expiresInMs: planned("Do not begin after this time"),
  },
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
  const headers = encodeHeaders(kind, verb, options);
  const prepared = prepare(checked, payload);
  return prepared instanceof Promise
    ? prepared.then((late) => asSaid(checked, late, headers))
    : asSaid(checked, prepared, headers);
}

function asSaid(contract: AnyContract, { json, key }: Prepared, headers: string | null): Said {
  return { contract, json, key, headers };
}

/** The options of a call: its headers as JSON, null where there are none. */
export function encodeHeaders(kind: "command" | "event", verb: Verb, options: unknown): string | null {
  if (options === undefined) return null;
  const fields = kind === "command" ? sayFields.send : sayFields.publish;
  const { headers } = checkOptions(options, fields, `${verb}()`);
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
