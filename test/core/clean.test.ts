import { describe, expect, it } from "vitest";
import { cleaned, reasonOf } from "../../src/core/clean.js";
import { limits } from "../../src/core/limits.js";

describe("what a foreign error says, before it is kept", () => {
  it("has nothing that PostgreSQL cannot store, also where it was cut in the middle of a letter", () => {
    expect(reasonOf(new Error("no\0way \ud83d"))).toBe("no\ufffdway \ufffd");
    const cut = cleaned(`${"x".repeat(limits.errorBytes - 1)}\u{1f4ef}`);
    expect(cut).toHaveLength(limits.errorBytes);
    expect(cut.endsWith("\ufffd")).toBe(true);
  });
});
