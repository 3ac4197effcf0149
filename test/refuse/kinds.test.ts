/**
 * Goal: a verb takes its own kind of contract and nothing else, also from JavaScript, and a refusal writes nothing.
 * Method: every verb with every wrong kind and with look-alikes, each with the verb that its message must show.
 */
import type { PGlite } from "@electric-sql/pglite";
import { command, event, isContract, type Post, posthorn, query, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rejected, thrown } from "../core/thrown.js";
import { decisions } from "../producer/stage.js";
import { createPglite } from "../support/pglite.js";

const anything = type<unknown>();
const ThingOf = query("ThingOf", { request: anything, response: anything, deadlineMs: 1_000 });
const DoThing = command("DoThing", { queue: "work", schema: anything });
const ThingDone = event("ThingDone", { topic: "facts", schema: anything });
const kinds: Readonly<Record<string, unknown>> = { query: ThingOf, command: DoThing, event: ThingDone };
const own = {
  send: "command",
  sendMany: "command",
  publish: "event",
  publishMany: "event",
  ask: "query",
  handle: "command",
  on: "event",
  handleMany: "command",
  onMany: "event",
  answer: "query",
} as const;
const uses: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  say: { query: "ask", command: "send", event: "publish" },
  sayMany: { query: "ask", command: "sendMany", event: "publishMany" },
  work: { query: "answer", command: "handle", event: "on" },
  workMany: { query: "answer", command: "handleMany", event: "onMany" },
};
const rowOf = (verb: string) => Object.values(uses).find((row) => Object.values(row).includes(verb)) ?? {};

let pglite: PGlite;
let post: Post<unknown>;
/** Every verb, with whatever contract: what a caller in JavaScript can do. */
let verbs: Readonly<Record<string, (contract: never) => unknown>>;
beforeAll(async () => {
  pglite = await createPglite();
  post = posthorn({ service: "kinds", database: pglite });
  const queue = post.queue("work", decisions);
  const reader = post.subscription("reader", { topic: "facts", ...decisions });
  const handler = () => undefined;
  const batch = { size: 10, maxWaitMs: 0 };
  const buffered = (say: "send" | "publish") => (contract: never) =>
    post.transaction(
      async (context) => void (context[say] as (contract: never, payload: never) => unknown)(contract, {} as never),
    );
  const inside = (say: "send" | "sendMany" | "publish" | "publishMany") => (contract: never) =>
    pglite.transaction((tx) =>
      (post.in(tx)[say] as (contract: never, payload: never) => Promise<unknown>)(contract, [{}] as never),
    );
  verbs = {
    send: (contract) => post.send(contract, {} as never),
    sendMany: (contract) => post.sendMany(contract, [{}] as never),
    publish: (contract) => post.publish(contract, {} as never),
    publishMany: (contract) => post.publishMany(contract, [{}] as never),
    ask: (contract) => post.ask(contract, {} as never),
    handle: (contract) => queue.handle(contract, handler as never),
    on: (contract) => reader.on(contract, handler),
    handleMany: (contract) => queue.handleMany(contract as never, batch, handler),
    onMany: (contract) => reader.onMany(contract, batch, handler),
    answer: (contract) => post.answer(contract, handler as never),
    "send of a transaction": buffered("send"),
    "publish of a transaction": buffered("publish"),
    "send of in(tx)": inside("send"),
    "sendMany of in(tx)": inside("sendMany"),
    "publish of in(tx)": inside("publish"),
    "publishMany of in(tx)": inside("publishMany"),
  };
  await post.migrate();
});
afterAll(async () => {
  const { rows } = await pglite.query(
    "select (select count(*) from posthorn.message_1)::int as messages, (select count(*) from posthorn.contract)::int as contracts",
  );
  expect(rows).toEqual([{ messages: 0, contracts: 0 }]);
  await post.stop();
  await pglite.close();
});

/** The error of a verb, thrown or rejected. */
async function refusal(name: string, contract: unknown) {
  const verb = verbs[name];
  if (verb === undefined) throw new Error(`no verb ${name}`);
  return rejected((async () => verb(contract as never))());
}

const names = [
  ...Object.keys(own),
  "send of a transaction",
  "publish of a transaction",
  "send of in(tx)",
  "sendMany of in(tx)",
  "publish of in(tx)",
  "publishMany of in(tx)",
];

describe.each(names)("%s", (name) => {
  const verb = name.split(" ")[0] as keyof typeof own;

  test("refuses the other two kinds and shows their verbs", async () => {
    for (const [kind, contract] of Object.entries(kinds)) {
      if (kind === own[verb]) continue;
      const error = await refusal(name, contract);
      const use = rowOf(verb)[kind];
      expect([error.name, error.code, error.facts.use, error.facts.wanted]).toEqual([
        "WrongKindError",
        "PH_WRONG_KIND",
        use,
        own[verb],
      ]);
      expect(error.message).toMatch(
        new RegExp(`^${verb}\\(\\) takes an? ${own[verb]}; \\w+ is an? ${kind}: use ${use}\\(\\)`),
      );
    }
  });

  test("refuses what no definition function made", async () => {
    const contract = Object(kinds[own[verb]]);
    const proxy = new Proxy(contract, {});
    const { proxy: dead, revoke } = Proxy.revocable({}, {});
    revoke();
    const hostile = new Proxy(
      {},
      {
        has: () => {
          throw new Error("has");
        },
        get: () => {
          throw new Error("get");
        },
      },
    );
    const alike = /It looks like one; a contract is passed as \w+\(\) returned it, never copied or built by hand/;
    const values: readonly (readonly [unknown, RegExp])[] = [
      [undefined, /got undefined\. Is its import missing or circular\?$/],
      [null, /got null/],
      [contract.name, /Pass the contract itself, not its name/],
      [{ ...contract }, alike],
      [JSON.parse(JSON.stringify(contract)), alike],
      [Object.create(contract), alike],
      [proxy, alike],
      [{ kind: own[verb], name: "DoThing", "~posthorn": { version: 1 } }, alike],
      [dead, /got an object that cannot be read/],
      [hostile, /got an object|got an instance/],
      [Symbol("contract"), /got a symbol/],
      [() => contract, /got a function/],
      [5n, /got a bigint/],
      [[contract], /got an array/],
    ];
    for (const [value, message] of values) {
      const error = await refusal(name, value);
      expect([error.name, error.code]).toEqual(["WrongKindError", "PH_WRONG_KIND"]);
      expect(error.message).toMatch(new RegExp(`^${verb}\\(\\) takes an? ${own[verb]} as its first argument, got `));
      expect(error.message).toMatch(message);
    }
  });
});

test("a command given to another queue than its own is refused, and so is an event of another topic", () => {
  const elsewhere = post.queue("elsewhere", decisions);
  const error = thrown(() => elsewhere.handle(DoThing as never, () => undefined));
  expect([error.name, error.code, error.facts]).toEqual([
    "WrongKindError",
    "PH_WRONG_CHANNEL",
    { contract: "DoThing", channel: "work", given: "elsewhere" },
  ]);
  expect(error.message).toMatch(/DoThing is carried by the queue "work", not by "elsewhere"/);
  const reader = post.subscription("other-reader", { topic: "other-facts", ...decisions });
  expect(thrown(() => reader.on(ThingDone as never, () => undefined)).message).toMatch(
    /ThingDone is carried by the topic "facts"/,
  );
});

test("a queue has no on() and a subscription no handle() that works", () => {
  const queue = post.queue("cross", decisions) as unknown as { on(contract: unknown, handler: unknown): unknown };
  expect(thrown(() => queue.on(ThingDone, () => undefined)).message).toMatch(/"cross" is a queue: use handle\(\)/);
  const reader = post.subscription("cross-reader", { topic: "facts", ...decisions }) as unknown as {
    handle(contract: unknown, handler: unknown): unknown;
  };
  expect(thrown(() => reader.handle(DoThing, () => undefined)).message).toMatch(
    /"cross-reader" is a subscription: use on\(\)/,
  );
});

test("a handler, an answer or a transaction that is no function is refused, and the message shows the way", async () => {
  const queue = post.queue("nofunction", decisions);
  const DoNothing = command("DoNothing", { queue: "nofunction", schema: anything });
  for (const value of [undefined, null, "handler", {}, Promise.resolve()]) {
    expect(thrown(() => queue.handle(DoNothing, value as never)).message).toMatch(
      /^handle\(DoNothing, …\) takes a function as its second argument/,
    );
    expect(thrown(() => post.answer(ThingOf, value as never)).message).toMatch(
      /^answer\(ThingOf, …\) takes a function as its second argument/,
    );
    const error = await rejected(post.transaction(value as never));
    expect([error.code, error.message]).toEqual([
      "PH_OPTION_INVALID",
      expect.stringMatching(/transaction\(\) takes a function: await post\.transaction\(async/),
    ]);
  }
});

// Only the compiler refused it in a test: a caller in JavaScript would have had its event published, and the delay dropped in silence.
test("an event has no time, no expiry, no priority and no dedupe: they are refused by name, in every way to publish it", async () => {
  const given = {
    delayMs: 5,
    runAt: new Date(),
    expiresInMs: 5,
    priority: 1,
    dedupe: { key: "a", mode: "drop", windowMs: 5 },
  };
  for (const [option, value] of Object.entries(given)) {
    const options = { [option]: value } as never;
    const ways = {
      publish: () => post.publish(ThingDone, {}, options),
      publishMany: () => post.publishMany(ThingDone, [{}], options),
      "publish of a transaction": () => post.transaction(async ({ publish }) => publish(ThingDone, {}, options)),
      "publish of in(tx)": () => pglite.transaction((tx) => post.in(tx).publish(ThingDone, {}, options)),
    };
    for (const [way, publish] of Object.entries(ways)) {
      const error = await rejected(publish());
      expect([way, error.code, error.facts.option]).toEqual([way, "PH_OPTION_UNKNOWN", option]);
    }
  }
});

test("a query that nothing answers here is refused by name", async () => {
  const error = await rejected(post.ask(ThingOf, {}));
  expect([error.name, error.code]).toEqual(["NoAnswerError", "PH_NO_ANSWER"]);
  expect(error.message).toMatch(/Nothing answers ThingOf in this process.*post\.answer\(ThingOf, …\)/);
});

test("contracts are frozen, and isContract() never throws", () => {
  for (const contract of [ThingOf, DoThing, ThingDone]) {
    expect(() => Object.assign(contract, { kind: "event" })).toThrow(TypeError);
    expect(isContract(contract)).toBe(true);
  }
  const hostile = new Proxy(
    {},
    {
      has: () => {
        throw new Error("x");
      },
    },
  );
  for (const value of [hostile, null, undefined, 5, Symbol("x"), { "~posthorn": null }])
    expect(isContract(value)).toBe(false);
});
