import { describe, expect, it } from "vitest";
import { checkOptions, type Fields, typeInWords } from "../../src/core/options.js";
import { thrown } from "./thrown.js";

const fields = {
  firstMs: { type: "duration", doc: "The first wait", min: 1, max: 1_000, required: true },
  attempts: { type: "integer", doc: "Runs in all", min: 1, max: 10, default: 3 },
  lanes: { type: "integer", doc: "Lanes", min: -5, max: Number.MAX_SAFE_INTEGER, unit: "lanes" },
  enabled: { type: "boolean", doc: "Whether", default: true },
  mode: { type: "choice", doc: "How", values: ["drop", "debounce"] },
  url: { type: "string", doc: "Where", maxLength: 100, secret: true },
  inner: {
    type: "object",
    doc: "Inside",
    fields: { keepMs: { type: "duration", doc: "Keep", min: 1, max: 9, required: true } },
  },
  twice: { type: "custom", doc: "Doubled", words: "a thing", check: (value: unknown) => [value, value] as const },
  rateLimit: { type: "planned", doc: "Later" },
} as const satisfies Fields;
const check = (value: unknown) => checkOptions(value, fields, "email.retry");
const refuse = (value: unknown) => thrown(() => check(value));

describe("checkOptions", () => {
  it("fills in the defaults and returns a frozen object of its own with the types of the table", () => {
    const given = { firstMs: 5, mode: "drop" };
    const checked = check(given);
    const firstMs: number = checked.firstMs;
    const mode: "drop" | "debounce" | undefined = checked.mode;
    expect([firstMs, mode]).toEqual([5, "drop"]);
    expect(checked).toEqual({ firstMs: 5, attempts: 3, enabled: true, mode: "drop" });
    expect(Object.isFrozen(checked)).toBe(true);
    expect(checked).not.toBe(given);
  });

  it("takes undefined as not given, also for a planned option", () => {
    expect(check({ firstMs: 1, attempts: undefined, rateLimit: undefined }).attempts).toBe(3);
    expect(refuse({ firstMs: undefined }).code).toBe("PH_OPTION_MISSING");
  });

  it("uses what a custom check returns", () => {
    expect(check({ firstMs: 1, twice: 4 }).twice).toEqual([4, 4]);
  });

  it.each([
    ["5", 'got the string "5"'],
    [Number.NaN, "got NaN"],
    [-0, "got -0"],
    [Number.POSITIVE_INFINITY, "got Infinity"],
    [1.5, "got the number 1.5"],
    [2 ** 53, "got the number 9007199254740992"],
    [0, "got the number 0"],
    [1_001, "got the number 1001"],
    [5n, "got a bigint"],
    [null, "got null"],
    [true, "got true"],
    [[5], "got an array"],
    [Object(5), "got an instance of Number"],
    [() => 5, "got a function"],
  ])("refuses %s as a duration, with the path and the range", (value, got) => {
    const error = refuse({ firstMs: value });
    expect(error.code).toBe("PH_OPTION_INVALID");
    expect(error.message).toBe(`email.retry.firstMs must be an integer from 1 to 1000 (milliseconds), ${got}.`);
    expect(error.facts.path).toBe("email.retry.firstMs");
  });

  it("refuses -0 and 2^53 also where the range would take them", () => {
    expect(refuse({ firstMs: 1, lanes: -0 }).message).toContain("got -0");
    expect(refuse({ firstMs: 1, lanes: 2 ** 53 }).message).toContain("9007199254740991 lanes, got");
  });

  it("refuses a text that can be neither stored nor sent, and does not show it", () => {
    for (const url of ["a\0secret", "secret\ud800"]) {
      const error = refuse({ firstMs: 1, url });
      expect(error.code).toBe("PH_OPTION_INVALID");
      expect(error.message).toMatch(/^email\.retry\.url has a NUL character or half of a surrogate pair/);
      expect(error.message).not.toContain("secret");
    }
  });

  it.each([undefined, null, "retry", 5, [], new Map(), () => ({}), Object.create({ firstMs: 5 }), new Date()])(
    "refuses %o in place of the options",
    (value) => {
      const error = refuse(value);
      expect(error.code).toBe("PH_OPTION_INVALID");
      expect(error.message).toMatch(/^email\.retry takes an object of options, got /);
    },
  );

  it("refuses an unknown option with the nearest known one and the list, which leaves out what is planned", () => {
    const error = refuse({ firstMs: 1, atempts: 5 });
    expect(error.code).toBe("PH_OPTION_UNKNOWN");
    expect(error.message).toBe(
      'email.retry has an unknown option "atempts". Did you mean "attempts"? Known are: firstMs, attempts, lanes, enabled, mode, url, inner, twice.',
    );
  });

  it.each(["constructor", "__proto__", "toString", "'; drop table x; --", "x".repeat(10_000)])(
    "refuses the hostile option name %s in one short line",
    (name) => {
      const error = refuse(JSON.parse(`{"firstMs":1,${JSON.stringify(name)}:1}`));
      expect(error.code).toBe("PH_OPTION_UNKNOWN");
      expect(error.message.length).toBeLessThan(250);
    },
  );

  it("names an unknown option before a missing one, because it is often the same one mistyped", () => {
    expect(refuse({ fristMs: 1 }).message).toContain('Did you mean "firstMs"?');
  });

  it("refuses a symbol, and a getter that throws", () => {
    expect(refuse({ firstMs: 1, [Symbol("x")]: 1 }).code).toBe("PH_OPTION_UNKNOWN");
    const evil = Object.defineProperty({}, "firstMs", {
      enumerable: true,
      get: () => {
        throw new Error("no");
      },
    });
    expect(refuse(evil).cause).toEqual(new Error("no"));
  });

  it("refuses a planned option by name", () => {
    const error = refuse({ firstMs: 1, rateLimit: {} });
    expect([error.code, error.name]).toEqual(["PH_NOT_BUILT", "NotBuiltError"]);
    expect(error.message).toMatch(/^email\.retry\.rateLimit is planned and not built yet\./);
  });

  it("names everything that is missing at once, with what it decides", () => {
    const two = { a: fields.firstMs, b: { ...fields.mode, required: true } } as const;
    const error = thrown(() => checkOptions({}, two, "email", { decisions: ["a", "b"] }));
    expect(error.message).toBe(
      'email lacks 2 decisions a, b. Add:\n  a: The first wait (an integer from 1 to 1000 (milliseconds))\n  b: How (one of "drop", "debounce")',
    );
    expect(error.facts.missing).toEqual(["a", "b"]);
  });

  it("calls an option an option and a decision a decision where both are missing", () => {
    const two = { a: fields.firstMs, b: { ...fields.mode, required: true } } as const;
    const error = thrown(() => checkOptions({}, two, "out", { decisions: ["b"] }));
    expect(error.message).toMatch(/^out lacks the option a and the decision b\. Add:\n {2}a: /);
  });

  it("leads from an option of something else to what it belongs to, and still lists what is known", () => {
    const elsewhere = { nodes: "It is called modes there." };
    const known = "Known are: mode.";
    const one = { mode: fields.mode } as const;
    expect(thrown(() => checkOptions({ nodes: 1 }, one, "out", { elsewhere })).message).toBe(
      `out has an unknown option "nodes". It is called modes there. ${known}`,
    );
    expect(thrown(() => checkOptions({ toString: 1 }, one, "out", { elsewhere })).message).toBe(
      `out has an unknown option "toString". ${known}`,
    );
  });

  it("checks objects inside with the whole path", () => {
    expect(refuse({ firstMs: 1, inner: { keepMs: 0 } }).message).toMatch(/^email\.retry\.inner\.keepMs must be/);
    expect(refuse({ firstMs: 1, inner: {} }).facts).toEqual({ path: "email.retry.inner", missing: ["keepMs"] });
  });

  it("suggests the nearest choice", () => {
    expect(refuse({ firstMs: 1, mode: "dropp" }).message).toBe(
      'email.retry.mode must be one of "drop", "debounce", got the string "dropp". Did you mean "drop"?',
    );
    expect(refuse({ firstMs: 1, mode: 5 }).message).toContain('"debounce", got the number 5.');
  });

  it("refuses what is no boolean and no string, and never shows a secret", () => {
    expect(refuse({ firstMs: 1, enabled: "false" }).message).toContain("must be true or false");
    const error = refuse({ firstMs: 1, url: `postgres://me:password@${"x".repeat(100)}` });
    expect(error.message).toContain("got a string of 123 letters");
    expect(JSON.stringify([error.message, error.facts])).not.toContain("password");
    expect(refuse({ firstMs: 1, url: "" }).code).toBe("PH_OPTION_INVALID");
  });

  it("says each type in words for the reference", () => {
    expect(Object.values(fields).map(typeInWords)).toEqual([
      "an integer from 1 to 1000 (milliseconds)",
      "an integer from 1 to 10",
      "an integer from -5 to 9007199254740991 lanes",
      "true or false",
      'one of "drop", "debounce"',
      "a string of 1 to 100 letters",
      "an object with keepMs",
      "a thing",
      "planned, not built yet",
    ]);
  });
});
