import { type as ark } from "arktype";
import * as v from "valibot";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import {
  checkAnswer,
  checkRequest,
  checkResult,
  prepare,
  prepareList,
  receive,
  receiveResult,
} from "../../src/contracts/check.js";
import { command, event, query } from "../../src/contracts/define.js";
import { type Schema, type } from "../../src/contracts/standard-schema.js";
import { limits } from "../../src/core/limits.js";
import { rejected, thrown } from "../core/thrown.js";

const order = (schema: Schema, key?: (payload: unknown) => string) =>
  event("OrderPlaced", key === undefined ? { topic: "orders", schema } : { topic: "orders", schema, key });
const keyed = (key: unknown) => order(type<unknown>(), key as () => string);
/** A schema that is nothing but its validate function. */
const schema = (validate: unknown): Schema => ({
  "~standard": { version: 1, vendor: "test", validate: validate as Schema["~standard"]["validate"] },
});
const throwing = schema(() => {
  throw new TypeError("boom");
});
const rejecting = schema(async () => {
  throw new TypeError("late boom");
});
const silent = schema(() => new Promise(() => {}));

afterEach(() => {
  vi.useRealTimers();
});

/** A list of issues as a library may have it: its constructor is not made for slice and map. */
class Issues extends Array<unknown> {
  constructor(issues: unknown) {
    super();
    if (!Array.isArray(issues)) throw new TypeError("not a list");
    this.push(...issues);
  }
}

describe("prepare", () => {
  it("stores the input as said and takes the key from the output, without a promise", () => {
    const contract = event("OrderPlaced", {
      topic: "orders",
      schema: z.object({ id: z.string().transform((id) => id.toUpperCase()), cents: z.number().default(5) }),
      key: (payload) => `${payload.id}:${payload.cents}`,
    });
    expect(prepare(contract, { id: "a1" })).toEqual({ json: '{"id":"a1"}', key: "A1:5" });
  });

  it.each([
    ["Zod", z.object({ lines: z.array(z.object({ price: z.number() })) })],
    ["Valibot", v.object({ lines: v.array(v.object({ price: v.number() })) })],
    ["ArkType", ark({ lines: ark({ price: "number" }).array() })],
  ])("refuses what does not fit a schema of %s, with the path of each issue", (_library, fitting) => {
    const contract = order(fitting as Schema);
    expect(prepare(contract, { lines: [{ price: 1 }] })).toEqual({ json: '{"lines":[{"price":1}]}', key: null });
    const error = thrown(() => prepare(contract, { lines: [{ price: 1 }, { price: "2" }] }));
    expect([error.name, error.code]).toEqual(["ContractViolationError", "PH_PAYLOAD_INVALID"]);
    expect(error.facts.issues).toEqual([{ path: "lines[1].price", message: expect.stringMatching(/number/) }]);
    expect(error.message).toMatch(/^The payload of OrderPlaced does not fit its schema: lines\[1\]\.price: .*number/);
  });

  it("shows the first issue, counts the others and keeps the limit of them", () => {
    const many = schema(() => ({ issues: Array.from({ length: 1_000 }, (_, n) => ({ message: `wrong ${n}` })) }));
    const error = thrown(() => prepare(order(many), {}));
    expect(error.message).toContain(`wrong 0 (and ${limits.schemaIssues - 1} more)`);
    expect(error.facts.issues).toHaveLength(limits.schemaIssues);
  });

  it("runs the schema on what JSON makes of the payload where that is not the same", () => {
    const seen: unknown[] = [];
    const contract = order(schema((value: unknown) => ({ value: seen.push(value) })));
    const same = { at: "1970" };
    prepare(contract, same);
    prepare(contract, { at: new Date(0), gone: undefined });
    expect(seen[0]).toBe(same);
    expect(seen[1]).toEqual({ at: "1970-01-01T00:00:00.000Z" });
    expect(Object.keys(Object(seen[1]))).toEqual(["at"]);
    expect(thrown(() => prepare(order(z.object({ at: z.date() })), { at: new Date(0) })).code).toBe(
      "PH_PAYLOAD_INVALID",
    );
  });

  it("refuses what is not JSON before any schema runs", () => {
    const never = schema(() => expect.unreachable());
    expect(thrown(() => prepare(order(never), { a: 1n })).code).toBe("PH_PAYLOAD_NOT_JSON");
    expect(thrown(() => prepare(order(never), undefined)).code).toBe("PH_PAYLOAD_NOT_JSON");
  });

  it("refuses with the cause where a schema throws, at once or later", async () => {
    const error = thrown(() => prepare(order(throwing), {}));
    expect([error.code, error.cause]).toEqual(["PH_SCHEMA_FAILED", new TypeError("boom")]);
    expect(error.message).toBe("The payload of OrderPlaced could not be checked: the schema threw: boom.");
    expect((await rejected(prepare(order(rejecting), {}))).cause).toEqual(new TypeError("late boom"));
    const unreadable = new Proxy({}, { get: (_target, name) => (name === "then" ? undefined : fail()), has: fail });
    expect(thrown(() => prepare(order(schema(() => unreadable)), {})).code).toBe("PH_SCHEMA_FAILED");
    expect((await rejected(prepare(order(schema(async () => unreadable)), {}))).code).toBe("PH_SCHEMA_FAILED");
  });

  it.each([undefined, null, 5, "ok"])("refuses a schema that returns %s instead of a result", (result) => {
    expect(thrown(() => prepare(order(schema(() => result)), {})).code).toBe("PH_SCHEMA_FAILED");
  });

  it.each([
    [[]],
    ["text"],
    [[null]],
    [[{}]],
    [[{ message: 5, path: "x" }]],
    [[{ message: "m".repeat(10_000), path: [{}] }]],
    [new Issues([{ message: "own list", path: new Issues(["a"]) }])],
  ])("refuses in good order whatever a schema reports as issues: %j", (issues) => {
    const error = thrown(() => prepare(order(schema(() => ({ issues }))), {}));
    expect(error.code).toBe("PH_PAYLOAD_INVALID");
    expect(error.message.length).toBeLessThan(limits.issueLength + 100);
  });

  it("waits for an asynchronous schema and takes the key from its output", async () => {
    const contract = event("OrderPlaced", {
      topic: "orders",
      schema: z.object({ id: z.string().refine(async (id) => id !== "bad") }),
      key: (payload) => payload.id,
    });
    const prepared = prepare(contract, { id: "a" });
    expect(prepared).toBeInstanceOf(Promise);
    expect(await prepared).toEqual({ json: '{"id":"a"}', key: "a" });
    expect((await rejected(prepare(contract, { id: "bad" }))).code).toBe("PH_PAYLOAD_INVALID");
  });

  it("refuses after the limit where a schema never answers, and leaves no timer behind", async () => {
    vi.useFakeTimers();
    const pending = rejected(prepare(order(silent), {}));
    await vi.advanceTimersByTimeAsync(limits.schemaMs);
    const error = await pending;
    expect([error.code, error.retryable]).toEqual(["PH_SCHEMA_TIMEOUT", true]);
    await prepare(order(schema(async () => ({ value: 1 }))), {});
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([
    ["an empty string", ""],
    ["null", null],
    ["undefined", undefined],
    ["a number", 5],
    ["1 MB", "x".repeat(1_048_576)],
    ["one byte too many", "x".repeat(limits.keyBytes + 1)],
    ["too many bytes in few letters", "€".repeat(Math.floor(limits.keyBytes / 3) + 1)],
    ["a NUL character", "a\0b"],
    ["half of a surrogate pair", "a\ud83d"],
  ])("refuses %s as a key, in a short message", (_name, key) => {
    const error = thrown(() =>
      prepare(
        keyed(() => key),
        {},
      ),
    );
    expect(error.code).toBe("PH_KEY_INVALID");
    expect(error.message).toMatch(
      /^The key of OrderPlaced must be a string of 1 to \d+ bytes; its key function returned /,
    );
    expect(error.message.length).toBeLessThan(200);
  });

  it("refuses an asynchronous key function, whose own failure troubles nobody later", () => {
    const late = async () => {
      throw new Error("no");
    };
    expect(thrown(() => prepare(keyed(late), {})).message).toContain("a Promise (is an `await` missing?)");
  });

  it("takes a key of the longest length", () => {
    const key = "x".repeat(limits.keyBytes);
    expect(
      prepare(
        keyed(() => key),
        {},
      ),
    ).toEqual({ json: "{}", key });
  });

  it("refuses with the cause where the key function throws", () => {
    const error = thrown(() =>
      prepare(
        keyed(() => {
          throw new Error("no");
        }),
        {},
      ),
    );
    expect([error.code, error.cause]).toEqual(["PH_SCHEMA_FAILED", new Error("no")]);
  });
});

describe("prepareList", () => {
  const shouted = event("OrderPlaced", {
    topic: "orders",
    schema: z.object({ id: z.string().transform((id) => id.toUpperCase()) }),
    key: ({ id }) => id,
  });

  it("stores the inputs as said and takes the keys from the outputs", () => {
    expect(prepareList(shouted, [{ id: "a" }, { id: "b" }])).toEqual({
      count: 2,
      list: '[{"id":"a"},{"id":"b"}]',
      keys: ["A", "B"],
    });
    expect(prepareList(order(type<unknown>()), [1])).toEqual({ count: 1, list: "[1]", keys: null });
  });

  it("leaves a list to prepare when one payload does not fit, or JSON changes one", () => {
    expect(prepareList(shouted, [{ id: "a" }, { id: 1 }])).toBeUndefined();
    expect(prepareList(shouted, [{ id: "a" }, { id: "b", gone: undefined }])).toBeUndefined();
  });

  it("throws for a key that is none, as prepare does", () => {
    expect(
      thrown(() =>
        prepareList(
          keyed(() => ""),
          [{}],
        ),
      ).code,
    ).toBe("PH_KEY_INVALID");
  });

  it("asks an asynchronous schema once, and then no more", () => {
    const validate = vi.fn(async (value: unknown) => ({ value }));
    const contract = order(schema(validate));
    expect(prepareList(contract, [1, 2])).toBeUndefined();
    expect(prepareList(contract, [1, 2])).toBeUndefined();
    expect(validate).toHaveBeenCalledTimes(1);
  });
});

describe("receive", () => {
  it("hands over the output of the schema, without a promise", () => {
    expect(receive(order(z.object({ n: z.number().default(5) })), {})).toEqual({ ok: true, payload: { n: 5 } });
    expect(receive(order(type<unknown>()), { a: 1 })).toEqual({ ok: true, payload: { a: 1 } });
  });

  it("tells and does not throw what does not fit, and a schema that throws, rejects or never answers", async () => {
    expect(receive(order(z.object({ id: z.string() })), {})).toMatchObject({ ok: false, issues: [{ path: "id" }] });
    const threw = (reason: string) => ({ ok: false, issues: [{ path: "", message: `the schema threw: ${reason}` }] });
    expect(receive(order(throwing), {})).toEqual(threw("boom"));
    expect(await receive(order(rejecting), {})).toEqual(threw("late boom"));
    vi.useFakeTimers();
    const pending = receive(order(silent), {});
    await vi.advanceTimersByTimeAsync(limits.schemaMs);
    expect(await pending).toMatchObject({
      ok: false,
      issues: [{ message: `the schema did not answer within ${limits.schemaMs} ms` }],
    });
  });

  it("hands over an output that looks like a promise as it is", () => {
    // biome-ignore lint/suspicious/noThenProperty: what a schema puts out may look like this.
    const thenable = { then: () => expect.unreachable() };
    expect(receive(order(schema(() => ({ value: thenable }))), {})).toEqual({ ok: true, payload: thenable });
  });
});

describe("results", () => {
  const SendEmail = command("SendEmail", {
    queue: "email",
    schema: type<string>(),
    result: z.object({ id: z.string().transform((id) => id.length) }),
  });
  const Forget = command("ForgetUser", { queue: "users", schema: type<string>() });

  it("are stored as returned and read as the output", () => {
    expect(checkResult(SendEmail, { id: "abc" })).toEqual({ json: '{"id":"abc"}' });
    expect(receiveResult(SendEmail, { id: "abc" })).toEqual({ ok: true, payload: { id: 3 } });
  });

  it("are refused where they do not fit, also where nothing was returned", () => {
    expect(thrown(() => checkResult(SendEmail, { id: 5 })).message).toMatch(
      /^The result of SendEmail does not fit its schema: id: /,
    );
    expect(thrown(() => checkResult(SendEmail, undefined)).code).toBe("PH_PAYLOAD_NOT_JSON");
    expect(receiveResult(SendEmail, {})).toMatchObject({ ok: false });
  });

  it("are not stored where the contract has none", () => {
    expect(checkResult(Forget, { a: 1n })).toEqual({ json: null });
    expect(receiveResult(Forget, null)).toEqual({ ok: true, payload: undefined });
  });
});

describe("queries", () => {
  const PriceOf = query("PriceOf", {
    request: z.object({ sku: z.string() }),
    response: z.object({ at: z.date() }),
    deadlineMs: 300,
  });

  it("check the request and the answer in the process, so that a Date stays one", () => {
    const answer = { at: new Date(0) };
    expect(checkRequest(PriceOf, { sku: "A1" })).toEqual({ value: { sku: "A1" } });
    expect(checkAnswer(PriceOf, answer)).toEqual({ value: answer });
  });

  it("refuse what does not fit and say which side is wrong", () => {
    expect(thrown(() => checkRequest(PriceOf, {})).message).toMatch(
      /^The request of PriceOf does not fit its schema: sku: /,
    );
    expect(thrown(() => checkAnswer(PriceOf, {})).message).toMatch(
      /^The answer of PriceOf does not fit its schema: at: /,
    );
  });
});

function fail(): never {
  throw new Error("no");
}
