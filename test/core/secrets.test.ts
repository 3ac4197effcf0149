import { describe, expect, test } from "vitest";
import { ConfigurationError } from "../../src/core/errors.js";
import { Secrets, withoutSecrets } from "../../src/core/secrets.js";

const secrets = new Secrets(["hunter2/secret"], "me");
const clean = (error: unknown) => withoutSecrets(error, secrets);
const dirty = () => new Error("I got hunter2/secret");

describe("an error of a client", () => {
  test("that holds nothing secret is passed on as it is", () => {
    const error = Object.assign(new Error("no"), { code: "ECONNREFUSED", port: 1 });
    expect(clean(error)).toBe(error);
    expect(clean(undefined)).toBeUndefined();
  });

  test("is passed on by its message, name and code, without the secret", () => {
    const error = Object.assign(dirty(), { name: "Refused", code: "E_REFUSED" });
    expect(clean(error)).toMatchObject({ message: "I got …", name: "Refused", code: "E_REFUSED" });
  });

  test("loses what the client hung on it, also where its message is harmless", () => {
    const error = Object.assign(new Error("no"), { config: { headers: { authorization: "x" } }, code: "E" });
    const passed = clean(error);
    expect(passed).toMatchObject({ message: "no", code: "E" });
    expect(passed).not.toHaveProperty("config");
  });

  test("is cleaned in its causes and in the errors of a collection", () => {
    const inner = new AggregateError([new Error("fine"), dirty()], "all failed");
    const passed = clean(new Error("outer", { cause: inner }));
    expect(passed).toMatchObject({
      message: "outer",
      cause: { message: "all failed", errors: [{ message: "fine" }, { message: "I got …" }] },
    });
    expect((passed as Error).cause).toBeInstanceOf(AggregateError);
  });

  test("ends although its cause is itself", () => {
    const ring = dirty();
    ring.cause = ring;
    expect(clean(ring)).toMatchObject({ message: "I got …" });
  });

  test("of ours keeps its class, so that the start is still refused by it, and loses what its cause holds", () => {
    const error = new ConfigurationError("PH_BROKER_DESTINATION", "There is none.", {}, dirty());
    expect(clean(error)).toBe(error);
    expect(error.cause).toMatchObject({ message: "I got …" });
  });

  test("that is none is not passed on", () => {
    expect(clean({ password: "hunter2/secret" })).toMatchObject({ message: "it threw what is no error" });
    expect(clean("I got hunter2/secret")).toBe("I got …");
  });
});

describe("a secret is found", () => {
  test.each([
    ["as it is", "a hunter2/secret b", "a … b"],
    ["in other letters, as in names of headers", "HUNTER2/SECRET", "…"],
    ["percent-encoded, in part or twice", "hunter2%2Fsecret %68unter2%2fsecret hunter2%252Fsecret", "… … …"],
    ["escaped", String.raw`hunter2\/secret hunter2\u002fsecret hunter2&#47;secret`, "… … …"],
    ["in base64", "aHVudGVyMi9zZWNyZXQ=", "…="],
    ["in base64url", "aHVudGVyMi9zZWNyZXQ", "…"],
    ["in hex", "68756e746572322f736563726574", "…"],
    ["as basic authorization", "bWU6aHVudGVyMi9zZWNyZXQ=", "…="],
  ])("%s", (_how, text, hidden) => {
    expect(secrets.hide(text)).toBe(hidden);
  });

  test("within more in base64, wherever it begins there", () => {
    for (const before of ["", "x", "xy", "xyz"]) {
      const shown = secrets.hide(Buffer.from(`${before}hunter2/secret${before}`).toString("base64"));
      expect(Buffer.from(shown.replace("…", ""), "base64").toString("latin1")).not.toMatch(/unter|secre/);
      expect(shown).toContain("…");
    }
  });

  test("where it is learnt later, and nowhere where there is none", () => {
    const later = new Secrets([undefined, ""]);
    expect(later.hide("the token abc-def")).toBe("the token abc-def");
    for (let n = 0; n < 20; n += 1) later.learn(`older-token-${n}`);
    later.learn("abc-def");
    expect(later.hide("the token abc-def")).toBe("the token …");
  });

  test("as a word of its own where it is so short that it is a part of many", () => {
    const short = new Secrets(["a"]);
    expect(short.hide("at a place: me:a@host")).toBe("at … place: me:…@host");
  });

  test("soon, in a text that is made to take long", () => {
    const quotes = new Secrets([`${'"'.repeat(20)}x\\\\`]);
    expect(quotes.hide("\\".repeat(8_000))).toContain("\\");
    expect(secrets.hide("%25".repeat(8_000))).toContain("%25");
  });

  test("also where there are very many, each of them long, and where one is no text that can be encoded", () => {
    const many = new Secrets([
      "\ud800broken",
      ...Array.from({ length: 300 }, (_, i) => `secret-${i}-${"x".repeat(200)}`),
    ]);
    const long = `y${"z+/".repeat(660)}`;
    many.add(long);
    expect(many.hide(`a ${encodeURIComponent(long)} b secret-7-${"x".repeat(200)}`)).toBe("a … b …");
  });
});
