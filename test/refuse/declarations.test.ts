/**
 * Goal: every declaration that is wrong, half or hostile is refused where it is made, by a typed error that names the culprit and the way out.
 * Method: no database is opened; tables of calls, with what their messages must contain.
 */

import pg from "pg";
import { command, event, type Post, policies, posthorn, query, retry, type } from "posthorn";
import { afterAll, describe, expect, test } from "vitest";
import { thrown } from "../core/thrown.js";

const anything = type<unknown>();
const untyped = <T>(value: unknown): T => value as T;
// Never opened: nothing here gets that far.
const post: Post<unknown> = posthorn({ service: "declarations", database: "postgres://nobody@127.0.0.1:1/none" });
afterAll(() => post.stop());

const whole = { ...policies.email };
type Whole = typeof whole;
let queues = 0;
const queueWith = (policy: unknown) => {
  queues += 1;
  return () => post.queue(`q${queues}`, untyped<Whole>(policy));
};
const without = (name: keyof Whole) => Object.fromEntries(Object.entries(whole).filter(([key]) => key !== name));

describe("a policy", () => {
  test.each(["retry", "idempotency", "ordering", "visibilityTimeoutMs", "deadLetter", "alerts"] as const)(
    "without %s is refused, and the message says what to decide",
    (decision) => {
      for (const policy of [without(decision), { ...whole, [decision]: undefined }]) {
        const error = thrown(queueWith(policy));
        expect([error.name, error.code, error.facts.missing]).toEqual([
          "ConfigurationError",
          "PH_OPTION_MISSING",
          [decision],
        ]);
        expect(error.message).toMatch(
          new RegExp(`^q\\d+ lacks the decision ${decision}\\. Add:\\n {2}${decision}: .+\\(.+\\)$`),
        );
      }
    },
  );

  test("without anything names all six at once", () => {
    const error = thrown(queueWith({}));
    expect(error.facts.missing).toEqual([
      "retry",
      "idempotency",
      "ordering",
      "visibilityTimeoutMs",
      "deadLetter",
      "alerts",
    ]);
    expect(error.message).toMatch(/lacks 6 decisions retry, idempotency, /);
    expect(error.message.split("\n")).toHaveLength(7);
  });

  test.each([
    ["nothing", undefined, "PH_OPTION_INVALID", /^q\d+ takes an object of options, got undefined/],
    ["null", null, "PH_OPTION_INVALID", /got null/],
    ["a Map", new Map(Object.entries(whole)), "PH_OPTION_INVALID", /got an instance of Map/],
    ["a list", [whole], "PH_OPTION_INVALID", /got an array/],
    [
      "half of the alerts",
      { ...whole, alerts: { backlog: 1 } },
      "PH_OPTION_MISSING",
      /q\d+\.alerts lacks 3 options oldestAgeMs, deadLetters, noWorkerMs/,
    ],
    [
      "an alert too many",
      { ...whole, alerts: { ...whole.alerts, backlogs: 1 } },
      "PH_OPTION_UNKNOWN",
      /q\d+\.alerts has an unknown option "backlogs".*Did you mean "backlog"/,
    ],
    [
      "a mistyped decision",
      { ...whole, concurency: 3 },
      "PH_OPTION_UNKNOWN",
      /unknown option "concurency"\. Did you mean "concurrency"\? Known are: retry, /,
    ],
    ["another's option", { ...whole, maxRetries: 3 }, "PH_OPTION_UNKNOWN", /unknown option "maxRetries".*Known are:/],
    [
      "a dead letter without a time",
      { ...whole, deadLetter: {} },
      "PH_OPTION_MISSING",
      /deadLetter lacks the option keepMs/,
    ],
    [
      "a retry without its times",
      { ...whole, retry: { kind: "exponential", attempts: 3 } },
      "PH_OPTION_MISSING",
      /retry lacks 2 options firstMs, maxMs/,
    ],
    ["a number as retry", { ...whole, retry: 3 }, "PH_OPTION_INVALID", /retry must be retry\.exponential\(/],
    [
      "a mode that nobody can keep",
      { ...whole, idempotency: "exactly-once" },
      "PH_OPTION_INVALID",
      /must be one of "transaction", "handler", "at-most-once", got the string "exactly-once"/,
    ],
    [
      "retries at most once",
      { ...whole, idempotency: "at-most-once" },
      "PH_OPTION_INVALID",
      /retry must be retry\.none because .*"at-most-once"/,
    ],
    [
      "order without its dead letters",
      { ...whole, ordering: { per: "key" } },
      "PH_OPTION_MISSING",
      /ordering lacks the option whenDead/,
    ],
    [
      "a rate limit in other words",
      { ...whole, rateLimit: { perSecond: 1 } },
      "PH_OPTION_UNKNOWN",
      /rateLimit has an unknown option "perSecond"/,
    ],
    [
      "a circuit breaker without its numbers",
      { ...whole, circuitBreaker: {} },
      "PH_OPTION_MISSING",
      /circuitBreaker lacks 3 options failures, windowMs, openMs/,
    ],
    [
      "a list of waits that is empty",
      { ...whole, retry: { kind: "delays", delaysMs: [] } },
      "PH_OPTION_INVALID",
      /retry\.delaysMs must be a list of 1 to \d+ integers/,
    ],
    [
      "a retry function that is none",
      { ...whole, retry: { kind: "custom", attempts: 3, delayMs: 5 } },
      "PH_OPTION_INVALID",
      /retry\.delayMs must be a function/,
    ],
    ["a symbol", { ...whole, [Symbol("x")]: 1 }, "PH_OPTION_UNKNOWN", /has a symbol as the name of an option/],
    [
      "a getter that throws",
      Object.defineProperty({ ...whole }, "alerts", {
        enumerable: true,
        get: () => {
          throw new Error("x");
        },
      }),
      "PH_OPTION_INVALID",
      /an option that throws when read/,
    ],
    [
      "a revoked proxy",
      revoked(),
      "PH_OPTION_INVALID",
      /takes an object of options, got an object that cannot be read/,
    ],
    [
      "a proxy that throws",
      new Proxy(
        {},
        {
          ownKeys: () => {
            throw new Error("x");
          },
        },
      ),
      "PH_OPTION_INVALID",
      /an option that throws when read/,
    ],
  ])("with %s is refused", (_what, policy, code, message) => {
    const error = thrown(queueWith(policy));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
  });

  const numbers = [
    ["a text", "5"],
    ["NaN", Number.NaN],
    ["infinity", Number.POSITIVE_INFINITY],
    ["-0", -0],
    ["zero", 0],
    ["a negative number", -1],
    ["a fraction", 1.5],
    ["2^53", 2 ** 53],
    ["a bigint", 5n],
    ["true", true],
    ["null", null],
    ["a Number object", Object(5)],
    ["an object that acts as a number", { valueOf: () => 5 }],
  ] as const;
  const places: Readonly<Record<string, (value: unknown) => unknown>> = {
    visibilityTimeoutMs: (value) => ({ ...whole, visibilityTimeoutMs: value }),
    concurrency: (value) => ({ ...whole, concurrency: value }),
    "deadLetter.keepMs": (value) => ({ ...whole, deadLetter: { keepMs: value } }),
    "alerts.backlog": (value) => ({ ...whole, alerts: { ...whole.alerts, backlog: value } }),
    "retry.attempts": (value) => ({ ...whole, retry: retry.fixed({ attempts: value as number, delayMs: 1 }) }),
    "retry.firstMs": (value) => ({
      ...whole,
      retry: retry.exponential({ attempts: 2, firstMs: value as number, maxMs: 1 }),
    }),
  };
  test.each(numbers)("takes no %s where it wants a number, and names the place", (_what, value) => {
    for (const [place, policy] of Object.entries(places)) {
      const error = thrown(queueWith(policy(value)));
      expect([place, error.code]).toEqual([place, "PH_OPTION_INVALID"]);
      expect(error.message).toMatch(
        new RegExp(`^q\\d+\\.${place.replace(".", "\\.")} must be an integer from 1 to \\d+.*, got `),
      );
      expect(error.facts.path).toMatch(new RegExp(`\\.${place}$`));
    }
  });
});

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

describe("names", () => {
  const long = "a".repeat(10_000);
  const wrong: readonly unknown[] = [
    "",
    "x'; drop schema posthorn cascade; --",
    'q"uoted',
    long,
    "Email",
    "e mail",
    "e\0mail",
    "é",
    "😀",
    "../email",
    "-email",
    "__proto__",
    "\ud800",
    5,
    null,
    undefined,
    Symbol("email"),
    { toString: () => "email" },
    ["email"],
  ];
  test("of queues, topics, subscriptions, services and owners are plain, and the message stays short and shows the rule", () => {
    for (const name of wrong) {
      const calls: readonly (() => unknown)[] = [
        () => post.queue(untyped<string>(name), whole),
        () => post.subscription(untyped<string>(name), { topic: "things", ...whole }),
        () => command("DoThing", { queue: untyped<string>(name), schema: anything }),
        () => posthorn({ service: untyped<string>(name), database: "postgres://x" }),
        () => post.subscription("reader", { ...whole, topic: untyped<string>(name) }),
        () => event("ThingDone", { topic: "things", schema: anything, owner: untyped<string>(name) }),
      ];
      for (const call of name === undefined ? calls.slice(0, 2) : calls) {
        const error = thrown(call);
        expect([error.name, error.code]).toEqual(["ConfigurationError", "PH_NAME_INVALID"]);
        expect(error.message).toMatch(/must be 1 to 80 lower-case letters.* for instance "order-mail"; got /);
        expect(error.message.length).toBeLessThan(320);
        expect(error.message).not.toContain("\0");
      }
    }
  });

  test("of contracts are plain and read as their kind", () => {
    for (const name of [
      "",
      "orderPlaced",
      "Order Placed",
      "Order_Placed",
      long,
      "Order'; --",
      "É",
      5,
      undefined,
      Symbol("x"),
    ]) {
      const error = thrown(() => event(untyped<string>(name), { topic: "t", schema: anything }));
      expect([error.code, error.message]).toEqual([
        "PH_NAME_INVALID",
        expect.stringMatching(/must be 1 to 80 letters and digits in PascalCase/),
      ]);
      expect(error.message.length).toBeLessThan(320);
    }
    const order = thrown(() => event("SendEmail", { topic: "t", schema: anything }));
    expect(order.message).toMatch(/SendEmail does not read as a fact.*OrderPlaced.*command\("SendEmail"/);
    const fact = thrown(() => command("EmailSent", { queue: "q", schema: anything }));
    expect(fact.message).toMatch(/EmailSent reads as a fact.*SendEmail.*event\("EmailSent"/);
  });
});

describe("contracts", () => {
  const schemas: readonly (readonly [string, unknown])[] = [
    ["a plain object", {}],
    ["a function", () => true],
    ["a schema of another version", { "~standard": { version: 2, vendor: "x", validate: () => ({ value: 1 }) } }],
    ["a schema without validate", { "~standard": { version: 1, vendor: "x" } }],
    ["a text", "string"],
    ["null", null],
  ];
  test.each(schemas)("%s is no schema", (_what, schema) => {
    const error = thrown(() => command("DoThing", { queue: "q", schema: untyped<typeof anything>(schema) }));
    expect([error.code, error.message]).toEqual([
      "PH_OPTION_INVALID",
      expect.stringMatching(/^DoThing\.schema must be a Standard Schema, .*; got /),
    ]);
  });

  test("options of another kind are refused by name", () => {
    const refused = (call: () => unknown) => thrown(call).message;
    const extra = (options: object) =>
      untyped<{ topic: "t"; schema: typeof anything }>({ topic: "t", schema: anything, ...options });
    expect(refused(() => event("ThingDone", extra({ result: anything })))).toMatch(
      /ThingDone has an unknown option "result"/,
    );
    expect(refused(() => event("ThingDone", extra({ queue: "q" })))).toMatch(/unknown option "queue"/);
    expect(refused(() => event("ThingDone", extra({ delayMs: 1 })))).toMatch(/unknown option "delayMs"/);
    expect(refused(() => event("ThingDone", extra({ keys: () => "" })))).toMatch(/Did you mean "key"/);
    expect(refused(() => event("ThingDone", extra({ key: "id" })))).toMatch(
      /key must be a function from the payload to a string; got the string "id"/,
    );
    expect(
      refused(() => query("ThingOf", { request: anything, response: anything, deadlineMs: untyped("300") })),
    ).toMatch(/ThingOf\.deadlineMs must be an integer from 1 to 600000 \(milliseconds\), got the string "300"/);
  });
});

describe("declared twice", () => {
  test("a queue, a subscription, both under one name, a handler and an answer are refused", () => {
    const ThingOf = query("ThingOf", { request: anything, response: anything, deadlineMs: 1 });
    const DoThing = command("DoThing", { queue: "twice", schema: anything });
    const ThingDone = event("ThingDone", { topic: "twice-topic", schema: anything });
    const queue = post.queue("twice", whole);
    const reader = post.subscription("twice-reader", { topic: "twice-topic", ...whole });
    queue.handle(DoThing, () => undefined);
    reader.on(ThingDone, () => undefined);
    post.answer(ThingOf, () => 1);
    for (const [call, culprit] of [
      [() => post.queue("twice", whole), "twice"],
      [() => post.subscription("twice", { topic: "things", ...whole }), "twice"],
      [() => post.subscription("twice-reader", { topic: "things", ...whole }), "twice-reader"],
      [() => post.queue("twice-reader", whole), "twice-reader"],
      [() => queue.handle(DoThing, () => undefined), "DoThing"],
      [() => queue.handle(command("DoThing", { queue: "twice", schema: anything }), () => undefined), "DoThing"],
      [() => reader.on(ThingDone, () => undefined), "ThingDone"],
      [() => post.answer(ThingOf, () => 1), "ThingOf"],
    ] as const) {
      const error = thrown(call);
      expect([error.name, error.code]).toEqual(["ConfigurationError", "PH_DECLARED_TWICE"]);
      expect(error.message).toContain(culprit);
      expect(error.message).toMatch(/already.*(Rename|Remove) one/);
    }
  });

  test("a service on one database is refused, and free again after stop()", async () => {
    const options = { service: "twice", database: "postgres://nobody@127.0.0.1:1/none" } as const;
    const first = posthorn(options);
    expect(thrown(() => posthorn(options)).code).toBe("PH_DECLARED_TWICE");
    const elsewhere = posthorn({ ...options, database: "postgres://nobody@127.0.0.1:1/other" });
    await first.stop();
    await Promise.all([posthorn(options).stop(), elsewhere.stop()]);
  });

  test("an instance that was refused leaves its name free", async () => {
    const refused = { service: "free", database: "postgres://nobody@127.0.0.1:1/none", workerTimeoutMs: 1 } as const;
    expect(thrown(() => posthorn(refused)).message).toMatch(/workerTimeoutMs must be an integer from 1000 to 600000/);
    await posthorn({ service: "free", database: refused.database }).stop();
  });
});

describe("posthorn()", () => {
  const database = "postgres://nobody@127.0.0.1:1/none";
  const made = (options: unknown) => () => posthorn(untyped<{ service: string; database: string }>(options));
  test.each([
    ["nothing", undefined, "PH_OPTION_INVALID", /^posthorn\(\) takes an object of options, got undefined/],
    ["no service", { database }, "PH_OPTION_MISSING", /lacks the option service/],
    [
      "no database, as from an unset variable",
      { service: "s", database: process.env.POSTHORN_NO_SUCH_VARIABLE },
      "PH_OPTION_MISSING",
      /lacks the option database\. Add:\n {2}database: .*postgres:\/\/ URL/,
    ],
    [
      "a null database",
      { service: "s", database: null },
      "PH_OPTION_INVALID",
      /database must be a postgres:\/\/ URL, embedded:<folder>, a pg\.Pool or a PGlite instance; got null/,
    ],
    ["an empty database", { service: "s", database: "" }, "PH_OPTION_INVALID", /got a text of another form/],
    ["a number", { service: "s", database: 5432 }, "PH_OPTION_INVALID", /got the number 5432/],
    [
      "a PGlite that was not awaited",
      { service: "s", database: Promise.resolve() },
      "PH_OPTION_INVALID",
      /got a Promise \(is an `await` missing\?\)/,
    ],
    [
      "a client instead of a pool",
      { service: "s", database: new pg.Client() },
      "PH_OPTION_INVALID",
      /A single client cannot serve everybody: pass the pool/,
    ],
    // Its parameters were sent as if they were binary: workers lost their sessions as often as they began.
    [
      "a pool that asks for binary results",
      { service: "s", database: new pg.Pool(untyped<pg.PoolConfig>({ binary: true })) },
      "PH_OPTION_INVALID",
      /database is a pool with the option binary/,
    ],
    [
      "a mistyped option",
      { service: "s", database, migrat: "auto" },
      "PH_OPTION_UNKNOWN",
      /unknown option "migrat"\. Did you mean "migrate"/,
    ],
    [
      "a mistyped choice",
      { service: "s", database, migrate: "automatic" },
      "PH_OPTION_INVALID",
      /migrate must be one of "auto", "check", got the string "automatic"/,
    ],
    ["true as migrate", { service: "s", database, migrate: true }, "PH_OPTION_INVALID", /got true/],
    [
      "half a logger",
      { service: "s", database, logger: { info: () => undefined } },
      "PH_OPTION_INVALID",
      /logger must be an object with the methods info, warn and error/,
    ],
    [
      "a time as text",
      { service: "s", database, workerTimeoutMs: "5000" },
      "PH_OPTION_INVALID",
      /workerTimeoutMs must be an integer/,
    ],
  ])("with %s is refused", (_what, options, code, message) => {
    const error = thrown(made(options));
    expect([error.name, error.code]).toEqual(["ConfigurationError", code]);
    expect(error.message).toMatch(message);
  });

  test("never repeats a connection string that it refuses: it may hold a password", () => {
    for (const text of ["user:secret@host/db", "mysql://user:secret@host/db", "postgres//user:secret@host"]) {
      const error = thrown(made({ service: "s", database: text }));
      expect(error.code).toBe("PH_OPTION_INVALID");
      expect(JSON.stringify([error.message, error.facts, String(error.cause)])).not.toContain("secret");
    }
  });
});
