import { describe, expect, it } from "vitest";
import { limits } from "../../src/core/limits.js";
import { checkContractName, checkName } from "../../src/core/names.js";
import { show } from "../../src/core/show.js";
import { distance, suggest, suggestion } from "../../src/core/suggest.js";
import { count, durationInWords } from "../../src/core/words.js";
import { thrown } from "./thrown.js";

const hostile = [
  "email'; drop table posthorn.message; --",
  "x".repeat(10_000),
  "X".repeat(10_000),
  "",
  " email",
  "email ",
  "e\0mail",
  "é",
  "e/mail",
  "../email",
  "email\n",
  "\ud83d",
  null,
  undefined,
  5,
  {},
  ["email"],
  new String("email"),
];

describe("names", () => {
  it.each(["email", "a", "order-mail", "orders.eu_1", "x".repeat(limits.nameLength)])("%s names a queue", (name) => {
    expect(checkName(name, "queue")).toBe(name);
  });

  it.each([...hostile, "Email", "1st", "-email", ".email"])(
    "%j names no queue; the message shows the rule in short",
    (name) => {
      const error = thrown(() => checkName(name, "queue"));
      expect(error.code).toBe("PH_NAME_INVALID");
      expect(error.message).toMatch(/^The name of a queue must be 1 to 80 lower-case letters, digits, .* got /);
      expect(error.message.length).toBeLessThan(250);
      expect(error.message).not.toContain("\0");
    },
  );

  it.each([...hostile, "sendEmail", "Send_Email", "Send-Email", "Straße"])("%j names no contract", (name) => {
    const error = thrown(() => checkContractName(name, "event"));
    expect(error.code).toBe("PH_NAME_INVALID");
    expect(error.message).toMatch(/^The name of an event must be 1 to 80 letters and digits in PascalCase/);
    expect(error.message.length).toBeLessThan(250);
  });

  it("takes a contract name of the longest length and refuses one letter more", () => {
    expect(checkContractName("X".repeat(limits.nameLength), "command")).toHaveLength(limits.nameLength);
    expect(thrown(() => checkContractName("X".repeat(limits.nameLength + 1), "command")).code).toBe("PH_NAME_INVALID");
    expect(thrown(() => checkName("Shop", "owner")).message).toContain("The name of an owner must");
  });
});

describe("suggestions", () => {
  it("counts letters that must be inserted, removed or replaced", () => {
    expect([distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")]).toEqual([3, 0, 3]);
  });

  it("suggests the nearest word whatever its case, and none that is far or for a word of hostile length", () => {
    expect(suggest("visibiltyTimeoutMS", ["retry", "visibilityTimeoutMs"])).toBe("visibilityTimeoutMs");
    expect(suggest("banana", ["retry", "alerts"])).toBeUndefined();
    expect(suggest("x".repeat(10_000), ["retry"])).toBeUndefined();
    expect(suggestion("x", [])).toBe(" None are known here.");
  });
});

describe("words", () => {
  it.each([
    [0, "0 s"],
    [250, "250 ms"],
    [1_500, "1.5 s"],
    [59_999, "59.9 s"],
    [60_000, "1 min"],
    [127_000, "2 min 7 s"],
    [7_440_000, "2 h 4 min"],
    [2_592_000_000, "30 d"],
    [90_000_000, "1 d 1 h"],
  ])("%i ms reads as %s", (ms, words) => {
    expect(durationInWords(ms)).toBe(words);
  });

  it("writes large numbers in groups of three digits", () => {
    expect([5, 1_000, 10_000, 1_234_567].map(count)).toEqual(["5", "1,000", "10,000", "1,234,567"]);
  });

  it("shows whatever it is given in one short line and never throws", () => {
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    const evil = Object.create(Object.create({ a: 1 }), { constructor: { get: () => fail() } });
    const values = [
      revoked.proxy,
      evil,
      Object.create(null),
      Promise.resolve(),
      new Map(),
      "x".repeat(10_000),
      Symbol("s"),
    ];
    expect(values.map(show)).toEqual([
      "an object that cannot be read",
      "an object that cannot be read",
      "an object",
      "a Promise (is an `await` missing?)",
      "an instance of Map",
      `the string "${"x".repeat(40)}…" (10000 letters)`,
      "a symbol",
    ]);
  });
});

function fail(): never {
  throw new Error("no");
}
