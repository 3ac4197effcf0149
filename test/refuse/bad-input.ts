/** Everything that must not be stored, as tables: what it is, the value or how to make it, and what the refusal must say. */
import { limits } from "posthorn";

function circular(): unknown {
  const payload: Record<string, unknown> = { order: { id: 1 } };
  payload.order = { parent: payload };
  return payload;
}
export function nested(depth: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level += 1) value = wrap(value);
  return value;
}
function doubling(): unknown {
  let value: unknown = "x";
  for (let level = 0; level < 40; level += 1) value = [value, value];
  return value;
}
function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}
export const throwing = (): never => {
  throw new RangeError("from inside");
};
function fickle(...values: readonly unknown[]): unknown {
  let reads = 0;
  return { toJSON: () => values[Math.min(reads++, values.length - 1)] };
}
/** An object that a careless `await` would call. */
export function thenable(then: () => unknown): object {
  return { then };
}
class Money {
  readonly cents = 1;
}

export const notJson: readonly (readonly [string, () => unknown, RegExp])[] = [
  ["a bigint", () => ({ order: { cents: 1n } }), /order\.cents is a bigint/],
  ["itself", circular, /order\.parent is circular: it contains itself/],
  ["a function", () => ({ done: () => undefined }), /done is a function/],
  ["a symbol", () => ["a", Symbol("b")], /\[1\] is a symbol/],
  ["NaN", () => ({ cents: Number.NaN }), /cents is NaN/],
  ["infinity", () => [Number.NEGATIVE_INFINITY], /\[0\] is -Infinity/],
  ["undefined in a list", () => [1, undefined], /\[1\] is undefined/],
  ["a hole in a list", () => Array(3), /\[0\] is undefined/],
  ["half a surrogate pair", () => ({ name: "a\ud83d" }), /name has half of a surrogate pair/],
  ["half a surrogate pair in a name", () => ({ "a\udc00": 1 }), /a property whose name has half of a surrogate pair/],
  ["NUL", () => ({ lines: [{ name: "a\0b" }] }), /lines\[0\]\.name has a NUL character, which PostgreSQL cannot store/],
  ["NUL in a name", () => ({ "a\0": 1 }), /a property whose name has a NUL character/],
  ["a Map", () => ({ lines: new Map() }), /lines is an instance of Map, which has no toJSON\(\)/],
  ["an instance of a class", () => ({ price: new Money() }), /price is an instance of Money/],
  ["an invalid date", () => ({ at: new Date("x") }), /at is an invalid date/],
  [
    "10,000 objects in each other",
    () => nested(10_000, (inner) => ({ inner })),
    /begins a nesting of more than 64 levels/,
  ],
  ["10,000 lists in each other", () => nested(10_000, (inner) => [inner]), /begins a nesting of more than 64 levels/],
  [
    "a getter that throws",
    () => Object.defineProperty({}, "secret", { enumerable: true, get: throwing }),
    /secret throws when it is read/,
  ],
  ["a proxy that throws", () => new Proxy({}, { ownKeys: throwing }), /it throws when it is read/],
  ["a proxy whose prototype throws", () => new Proxy({}, { getPrototypeOf: throwing }), /throws when it is read/],
  ["a revoked proxy", revoked, /throws when it is read/],
  ["a toJSON that throws", () => ({ toJSON: throwing }), /throws when it is read/],
  ["a toJSON that gives a bigint", () => ({ toJSON: () => 1n }), /is a bigint/],
  ["a toJSON that gives nothing", () => ({ toJSON: () => undefined }), /is undefined/],
  ["a toJSON that lies the second time", () => fickle({}, undefined), /changes while it is read/],
  ["a toJSON that turns bad the second time", () => fickle({}, { n: 1n }), /throws when it is read/],
  [
    "a toJSON that gets deep the second time",
    () =>
      fickle(
        {},
        nested(5_000, (inner) => [inner]),
      ),
    /nesting of more than 64 levels|throws when it is read/,
  ],
];
export const tooLarge: readonly (readonly [string, () => unknown])[] = [
  ["a long text", () => "x".repeat(limits.payloadBytes)],
  ["a text that grows by its encoding", () => "é".repeat(limits.payloadBytes / 2)],
  ["a text that grows by its escapes", () => "\u0001".repeat(limits.payloadBytes / 6 + 1)],
  ["a list without end by sharing", doubling],
  ["a toJSON that grows the second time", () => fickle({}, "x".repeat(limits.payloadBytes))],
];
export const badKeys: readonly (readonly [string, unknown, RegExp])[] = [
  ["empty", "", /returned an empty string/],
  ["null", null, /returned null/],
  ["undefined", undefined, /returned undefined/],
  ["a number", 5, /returned the number 5/],
  ["1 MB", "k".repeat(1_048_576), /returned one of 1048576 bytes/],
  ["one byte too long", "k".repeat(limits.keyBytes + 1), /returned one of 513 bytes/],
  ["too long in bytes", "é".repeat(limits.keyBytes / 2 + 1), /returned one of 514 bytes/],
  ["NUL", "a\0b", /a string with a NUL character/],
  ["half a surrogate pair", "a\ud800", /half of a surrogate pair/],
  ["a promise", Promise.resolve("k"), /a Promise \(is an `await` missing\?\)/],
  ["a promise that rejects", Promise.reject(new Error("k")), /a Promise/],
  ["a String object", Object("k"), /an instance of String/],
];
for (const [, key] of badKeys) if (key instanceof Promise) key.catch(() => undefined);

/** What a library for schemas may do wrong, and the code that a caller gets. */
export const badSchemas: readonly (readonly [string, unknown, string, RegExp])[] = [
  ["throws", throwing, "PH_SCHEMA_FAILED", /could not be checked: the schema threw: from inside/],
  [
    "throws a text",
    () => {
      throw "boom";
    },
    "PH_SCHEMA_FAILED",
    /the schema threw: the string "boom"/,
  ],
  [
    "throws nothing",
    () => {
      throw undefined;
    },
    "PH_SCHEMA_FAILED",
    /the schema threw: undefined/,
  ],
  [
    "throws an error that cannot be read",
    () => {
      throw Object.defineProperty(new Error("x"), "message", { get: throwing });
    },
    "PH_SCHEMA_FAILED",
    /the schema threw/,
  ],
  ["rejects", async () => throwing(), "PH_SCHEMA_FAILED", /the schema threw: from inside/],
  ["rejects with null", () => Promise.reject(null), "PH_SCHEMA_FAILED", /the schema threw: null/],
  ["returns nothing", () => undefined, "PH_SCHEMA_FAILED", /returned undefined instead of \{ value \} or \{ issues \}/],
  ["returns true", () => true, "PH_SCHEMA_FAILED", /returned true instead of/],
  [
    "returns a text as its issues",
    () => ({ issues: "wrong" }),
    "PH_PAYLOAD_INVALID",
    /reported the string "wrong" as its issues/,
  ],
  ["returns no issue", () => ({ issues: [] }), "PH_PAYLOAD_INVALID", /refused it and named no issue/],
  [
    "returns issues that cannot be read",
    () => ({ issues: [Object.defineProperty({}, "message", { get: throwing })] }),
    "PH_PAYLOAD_INVALID",
    /an issue that cannot be read/,
  ],
  [
    "returns issues of a proxy that throws",
    () => ({ issues: new Proxy([], { get: throwing }) }),
    "PH_SCHEMA_FAILED",
    /could not be checked/,
  ],
  [
    "returns a result that throws",
    () => new Proxy({}, { has: throwing }),
    "PH_SCHEMA_FAILED",
    /could not be checked: the schema threw: from inside/,
  ],
  ["returns a promise-like that throws", () => thenable(throwing), "PH_SCHEMA_FAILED", /the schema threw: from inside/],
];
export const badHeaders: readonly (readonly [string, () => unknown, string, RegExp])[] = [
  [
    "a text",
    () => "a: b",
    "PH_PAYLOAD_NOT_JSON",
    /headers must be a plain object whose values are strings, got the string "a: b"/,
  ],
  ["null", () => null, "PH_PAYLOAD_NOT_JSON", /got null/],
  ["a list", () => [["a", "b"]], "PH_PAYLOAD_NOT_JSON", /got an array/],
  ["a Map", () => new Map([["a", "b"]]), "PH_PAYLOAD_NOT_JSON", /got an instance of Map\. Use Object\.fromEntries/],
  [
    "the headers of a request",
    () => new Headers({ a: "b" }),
    "PH_PAYLOAD_NOT_JSON",
    /got an instance of Headers\. Use Object\.fromEntries/,
  ],
  ["a number as value", () => ({ retries: 5 }), "PH_PAYLOAD_NOT_JSON", /the value of "retries" is the number 5/],
  ["undefined as value", () => ({ trace: undefined }), "PH_PAYLOAD_NOT_JSON", /the value of "trace" is undefined/],
  ["NUL", () => ({ trace: "a\0" }), "PH_PAYLOAD_NOT_JSON", /The headers cannot be stored as JSON: trace has a NUL/],
  ["NUL in a name", () => ({ "a\0": "b" }), "PH_PAYLOAD_NOT_JSON", /a property whose name has a NUL/],
  ["half a surrogate pair", () => ({ trace: "\ud800" }), "PH_PAYLOAD_NOT_JSON", /half of a surrogate pair/],
  [
    "more than 8 KB",
    () => ({ trace: "x".repeat(limits.headersBytes) }),
    "PH_PAYLOAD_TOO_LARGE",
    /headers have \d+ bytes as JSON; 8192 are allowed/,
  ],
  [
    "a getter that throws",
    () => Object.defineProperty({}, "trace", { enumerable: true, get: throwing }),
    "PH_PAYLOAD_NOT_JSON",
    /cannot be read/,
  ],
  ["a revoked proxy", revoked, "PH_PAYLOAD_NOT_JSON", /cannot be read/],
];
export const badOptions: readonly (readonly [string, unknown, string, RegExp])[] = [
  ["a text", "fast", "PH_OPTION_INVALID", /^send\(\) takes an object of options, got the string "fast"/],
  ["null", null, "PH_OPTION_INVALID", /got null/],
  ["a mistyped one", { header: {} }, "PH_OPTION_UNKNOWN", /unknown option "header"\. Did you mean "headers"/],
  [
    "another library's",
    { attempts: 3 },
    "PH_OPTION_UNKNOWN",
    /unknown option "attempts"\. Known are: headers, delayMs, runAt/,
  ],
  [
    "a delay below zero",
    { delayMs: -1 },
    "PH_OPTION_INVALID",
    /send\(\)\.delayMs must be an integer from 0 to 315360000000/,
  ],
  ["a delay without an end", { delayMs: Number.POSITIVE_INFINITY }, "PH_OPTION_INVALID", /delayMs must be an integer/],
  [
    "a delay of a thousand years",
    { delayMs: 3.2e13 },
    "PH_OPTION_INVALID",
    /delayMs must be an integer from 0 to 315360000000/,
  ],
  [
    "a delay and a time",
    { delayMs: 5, runAt: new Date() },
    "PH_OPTION_INVALID",
    /send\(\) takes delayMs or runAt, not both/,
  ],
  [
    "a time that is none",
    { runAt: new Date("never") },
    "PH_OPTION_INVALID",
    /send\(\)\.runAt must be a Date from 1970 on/,
  ],
  [
    "a time as text",
    { runAt: "2030-01-01" },
    "PH_OPTION_INVALID",
    /runAt must be a Date .*got the string "2030-01-01"/,
  ],
  ["a time far away", { runAt: new Date(8.64e15) }, "PH_OPTION_INVALID", /at most 10 years from now, got \+275760/],
  ["an expiry at once", { expiresInMs: 0 }, "PH_OPTION_INVALID", /expiresInMs must be an integer from 1/],
  [
    "an expiry before the delay",
    { expiresInMs: 5, delayMs: 5 },
    "PH_OPTION_INVALID",
    /\(5\) must be longer than send(Many)?\(\)\.delayMs \(5\)/,
  ],
  [
    "a priority that there is none of",
    { priority: 3 },
    "PH_OPTION_INVALID",
    /priority must be an integer from -2 to 2/,
  ],
  ["a dedupe without a mode", { dedupe: { key: "a" } }, "PH_OPTION_MISSING", /send\(\)\.dedupe lacks the option mode/],
  [
    "an unknown mode",
    { dedupe: { key: "a", mode: "dropp" } },
    "PH_OPTION_INVALID",
    /mode must be one of .*Did you mean "drop"/,
  ],
  [
    "a drop without a window",
    { dedupe: { key: "a", mode: "drop" } },
    "PH_OPTION_INVALID",
    /dedupe lacks the option windowMs/,
  ],
  [
    "a window of replace",
    { dedupe: { key: "a", mode: "replace", windowMs: 5 } },
    "PH_OPTION_INVALID",
    /windowMs does not go with the mode "replace"/,
  ],
  [
    "a longest wait of throttle",
    { dedupe: { key: "a", mode: "throttle", windowMs: 5, maxWaitMs: 5 } },
    "PH_OPTION_INVALID",
    /goes with the mode "debounce" alone/,
  ],
  [
    "a longest wait below the window",
    { dedupe: { key: "a", mode: "debounce", windowMs: 5, maxWaitMs: 4 } },
    "PH_OPTION_INVALID",
    /must not be shorter than windowMs \(5\)/,
  ],
  [
    "a delayed debounce",
    { delayMs: 5, dedupe: { key: "a", mode: "debounce", windowMs: 5 } },
    "PH_OPTION_INVALID",
    /says itself when the message begins/,
  ],
  [
    "an empty key",
    { dedupe: { key: "", mode: "replace" } },
    "PH_OPTION_INVALID",
    /dedupe\.key must be a string of 1 to 512 bytes/,
  ],
  [
    "a key of half a character",
    { dedupe: { key: "\ud800", mode: "replace" } },
    "PH_OPTION_INVALID",
    /dedupe\.key must be a string/,
  ],
  [
    "a key function that returns none",
    { dedupe: { key: () => 5, mode: "replace" } },
    "PH_OPTION_INVALID",
    /without NUL and half characters, got .*5/,
  ],
  [
    "a key function that throws",
    { dedupe: { key: throwing, mode: "replace" } },
    "PH_SCHEMA_FAILED",
    /dedupe\.key threw; nothing was written/,
  ],
  ["a symbol", { [Symbol("x")]: 1 }, "PH_OPTION_UNKNOWN", /symbol/],
];
