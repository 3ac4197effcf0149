import { isDeepStrictEqual } from "node:util";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { PosthornError } from "../../src/core/errors.js";
import { showPath, toJson, toJsonList } from "../../src/core/json.js";
import { limits } from "../../src/core/limits.js";
import { thrown } from "./thrown.js";

const refuse = (value: unknown) => thrown(() => toJson(value, "payload of OrderPlaced"));
class Money {
  cents = 5;
}
const circular: Record<string, unknown> = { order: {} };
(circular.order as Record<string, unknown>).again = circular;
const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) });

describe("toJson", () => {
  it("writes what JSON can carry, and says that it is the same", () => {
    const value = { text: "ü\n😀", number: -1.5, yes: true, none: null, list: [1, "two", { three: [] }], empty: {} };
    expect(toJson(value, "payload")).toEqual({ json: JSON.stringify(value), same: true });
    expect(toJson(null, "payload")).toEqual({ json: "null", same: true });
    expect(toJson("text", "payload")).toEqual({ json: '"text"', same: true });
  });

  it("drops undefined properties, writes a Date and -0 as JSON does, and says that it is not the same", () => {
    expect(toJson({ a: 1, b: undefined }, "payload")).toEqual({ json: '{"a":1}', same: false });
    expect(toJson({ at: new Date(0) }, "payload")).toEqual({ json: '{"at":"1970-01-01T00:00:00.000Z"}', same: false });
    expect(toJson({ zero: -0 }, "payload")).toEqual({ json: '{"zero":0}', same: false });
    expect(toJson(new URL("http://a.example/"), "payload")).toEqual({ json: '"http://a.example/"', same: false });
  });

  it("takes objects of another realm and objects without a prototype", () => {
    expect(toJson(runInNewContext("({ a: [1, { b: 2 }] })"), "payload").json).toBe('{"a":[1,{"b":2}]}');
    expect(toJson(Object.assign(Object.create(null), { a: 1 }), "payload").json).toBe('{"a":1}');
  });

  it.each([
    ["a bigint", { order: { cents: 5n } }, "order.cents"],
    ["a function", { order: { cents: () => 5 } }, "order.cents"],
    ["a symbol", { order: [1, Symbol("x")] }, "order[1]"],
    ["NaN", { order: { cents: Number.NaN } }, "order.cents"],
    ["Infinity", [Number.POSITIVE_INFINITY], "[0]"],
    ["a circular object", circular, "order.again"],
    ["undefined in an array", { lines: [1, undefined] }, "lines[1]"],
    ["a sparse array", { lines: new Array(3) }, "lines[0]"],
    ["a Map", { lines: new Map([["a", 1]]) }, "lines"],
    ["a Set", { lines: new Set([1]) }, "lines"],
    ["a typed array", { lines: new Float64Array(2) }, "lines"],
    ["a class instance", { total: new Money() }, "total"],
    ["a boxed number", { total: Object(5) }, "total"],
    ["an Error", { cause: new Error("x") }, "cause"],
    ["a Promise", { later: Promise.resolve(1) }, "later"],
    ["an invalid Date", { at: new Date(Number.NaN) }, "at"],
    ["a toJSON that returns undefined", { list: [{ toJSON: () => undefined }] }, "list[0]"],
    ["a toJSON that returns a bigint", { total: { toJSON: () => 5n } }, "total"],
    ["a NUL character", { name: "a\0b" }, "name"],
    ["a NUL character in a name", { lines: { "a\0b": 1 } }, "lines"],
    ["half of a surrogate pair", { name: ["ok", "\ud83d"] }, "name[1]"],
    ["the other half", { name: "\ude00\ud83d" }, "name"],
    ["a throwing getter", { order: Object.defineProperty({}, "a", { enumerable: true, get: fail }) }, "order.a"],
    ["a throwing toJSON", { order: { toJSON: fail } }, "order"],
    ["undefined", undefined, ""],
    ["a function alone", fail, ""],
  ])("refuses %s with its path", (_name, value, path) => {
    const error = refuse(value);
    expect(error.code).toBe("PH_PAYLOAD_NOT_JSON");
    expect(error.facts.path).toBe(path);
    expect(error.message).toMatch(/^The payload of OrderPlaced cannot be stored as JSON: \S.+\. Pass plain objects/);
  });

  it("keeps the error of a getter as the cause", () => {
    expect(refuse({ toJSON: fail }).cause).toEqual(new Error("no"));
  });

  it("takes text that only looks like an escape", () => {
    const value = { source: "\\u0000 and \\ud83d", tail: "\\\\ud800" };
    expect(JSON.parse(toJson(value, "payload").json)).toEqual(value);
  });

  it("takes the nesting of the limit and refuses one more", () => {
    expect(toJson(nested(limits.payloadDepth), "payload").same).toBe(true);
    expect(refuse(nested(limits.payloadDepth + 1)).message).toContain(`more than ${limits.payloadDepth} levels`);
  });

  it("takes the bytes of the limit and refuses one more, counted in UTF-8", () => {
    expect(toJson("a".repeat(limits.payloadBytes - 2), "payload").json.length).toBe(limits.payloadBytes);
    expect(refuse("a".repeat(limits.payloadBytes - 1)).code).toBe("PH_PAYLOAD_TOO_LARGE");
    const around = { at: new Date(0), list: [["", 1], {}], no: undefined };
    const left = limits.payloadBytes - JSON.stringify({ ...around, text: "" }).length;
    expect(toJson({ ...around, text: "a".repeat(left) }, "payload").json.length).toBe(limits.payloadBytes);
    expect(refuse({ ...around, text: "a".repeat(left + 1) }).code).toBe("PH_PAYLOAD_TOO_LARGE");
    const euros = "€".repeat(Math.floor((limits.payloadBytes - 2) / 3));
    expect(toJson(euros, "payload").same).toBe(true);
    expect(refuse(`${euros}€`).facts).toEqual({ bytes: euros.length * 3 + 5, maxBytes: limits.payloadBytes });
  });

  it("ends at the size limit on a value that contains its parts 2^60 times, and on a list without end", () => {
    let shared: unknown = "leaf";
    for (let depth = 0; depth < 60; depth += 1) shared = [shared, shared];
    expect(refuse(shared).code).toBe("PH_PAYLOAD_TOO_LARGE");
    const blank = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`p${index}`, undefined]));
    expect(refuse(new Array(100_000).fill(blank)).message).toContain("undefined properties without end");
    const endless = new Proxy([], {
      get: (_target, name) => (name === "length" ? Number.MAX_SAFE_INTEGER : undefined),
    });
    expect(refuse(endless).code).toBe("PH_PAYLOAD_NOT_JSON");
    expect(refuse(new Array(10_000).fill("x".repeat(1_000_000))).code).toBe("PH_PAYLOAD_TOO_LARGE");
  });

  it("refuses with its own error what changes between the check and the writing", () => {
    let reads = 0;
    const turns = { toJSON: () => (reads++ === 0 ? "text" : undefined) };
    expect(refuse(turns).code).toBe("PH_PAYLOAD_NOT_JSON");
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    expect(refuse({ a: revoked.proxy }).code).toBe("PH_PAYLOAD_NOT_JSON");
  });

  it("carries every JSON value unchanged", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, stringUnit: "binary" }), (value) => {
        fc.pre(!hasNul(value));
        const { json, same } = toJson(value, "payload");
        expect(json).toBe(JSON.stringify(value));
        expect(isDeepStrictEqual(JSON.parse(json), value)).toBe(same);
      }),
      { numRuns: 300 },
    );
  });

  it("accepts a value only where JSON.parse gives it back, and refuses every other with an error of its own", () => {
    const anything = fc.anything({
      withBigInt: true,
      withBoxedValues: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withSparseArray: true,
      withTypedArray: true,
      withUnicodeString: true,
      maxDepth: 4,
    });
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(anything, (value) => {
        try {
          const { json, same } = toJson(value, "payload");
          accepted += 1;
          if (same) expect(isDeepStrictEqual(JSON.parse(json), value)).toBe(true);
        } catch (error) {
          refused += 1;
          expect(error).toBeInstanceOf(PosthornError);
        }
      }),
      { numRuns: 2_000 },
    );
    expect(accepted).toBeGreaterThan(100);
    expect(refused).toBeGreaterThan(100);
  });
});

describe("showPath", () => {
  it("writes identifiers plainly and quotes everything else", () => {
    expect(showPath(["lines", 3, "price"])).toBe("lines[3].price");
    expect(showPath(["a b", "'; drop table x"])).toBe('["a b"]["\'; drop table x"]');
    expect(showPath([Symbol("x")])).toBe("[Symbol(x)]");
    expect(showPath(["x".repeat(10_000)]).length).toBeLessThan(80);
  });
});

function fail(): never {
  throw new Error("no");
}

function hasNul(value: unknown): boolean {
  return JSON.stringify(value).includes("\\u0000");
}

describe("toJsonList", () => {
  const large = (letters: number) => Array.from({ length: 4 }, () => ({ text: "x".repeat(letters) }));

  it("writes what toJson writes of each, or leaves all to it: when one is refused, or JSON changes one", () => {
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom<unknown>(
        undefined,
        Number.NaN,
        -0,
        5n,
        "\0",
        "\ud800",
        "\\ud800",
        new Date(0),
        new Map(),
        circular,
      ),
      fc.record({ a: fc.option(fc.string({ unit: "binary" }), { nil: undefined }) }),
    );
    fc.assert(
      fc.property(fc.array(value), (values) => {
        const jsons: string[] = [];
        let plain = true;
        for (const one of values) {
          try {
            const { json, same } = toJson(one, "payload");
            // Text that merely looks like an escape is left to it as well.
            if (!same || /\\u0000|\\ud/.test(json)) plain = false;
            jsons.push(json);
          } catch {
            plain = false;
          }
        }
        expect(toJsonList(values)).toBe(plain ? `[${jsons.join(",")}]` : undefined);
      }),
    );
  });

  it("leaves more than one payload may have to toJson, counted in bytes", () => {
    expect(toJsonList(large(limits.payloadBytes / 4 - 20))).toHaveLength(limits.payloadBytes - 31);
    expect(toJsonList(large(limits.payloadBytes / 4))).toBeUndefined();
    expect(toJsonList(["ü".repeat(limits.payloadBytes / 2)])).toBeUndefined();
  });

  it("calls no toJSON, which may count its calls", () => {
    const toJSON = vi.fn(() => 1);
    expect(toJsonList([{ a: { toJSON } }])).toBeUndefined();
    expect(toJSON).not.toHaveBeenCalled();
  });

  it("leaves what throws when it is read to toJson", () => {
    const throwing = Object.defineProperty({}, "a", {
      enumerable: true,
      get: () => {
        throw new Error("no");
      },
    });
    expect(toJsonList([{ a: 1 }, throwing])).toBeUndefined();
  });
});
