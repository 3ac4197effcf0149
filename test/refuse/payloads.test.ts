/**
 * Goal: nothing that JSON, the schema, the key rules or the limits forbid is ever stored, whatever way it is said; and what is allowed
 * arrives as it was said, however hostile it looks.
 * Method: one table of bad input, said in every way there is, on a server and on PGlite; then the rows are counted.
 */
import { type Context, command, event, limits, type Post, posthorn, type Schema, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { rejected } from "../core/thrown.js";
import { type Home, type OwnTransaction, twoHomes } from "../producer/homes.js";
import { decisions, schemaOf, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import {
  badHeaders,
  badKeys,
  badOptions,
  badSchemas,
  nested,
  notJson,
  thenable,
  throwing,
  tooLarge,
} from "./bad-input.js";

const queue = "stored";
const DoAny = command("DoAny", { queue, schema: type<unknown>() });
const AnyHappened = event("AnyHappened", { topic: "facts", schema: type<unknown>() });
const DoChecked = command("DoChecked", {
  queue,
  schema: z.object({ email: z.email(), lines: z.array(z.object({ cents: z.int() })) }),
});
let made = 0;
const withSchema = (validate: unknown) => {
  made += 1;
  return command(`DoSchema${made}`, { queue, schema: schemaOf<unknown>(validate as (value: unknown) => unknown) });
};
const withKey = (key: unknown): typeof DoAny => {
  made += 1;
  const name: string = `DoKey${made}`;
  return command(name as "DoAny", { queue, schema: type<unknown>(), key: key as () => string });
};

type Send = (contract: typeof DoAny, payload: unknown, options?: object) => Promise<unknown>;

describe.each(twoHomes)("on $name", (kind) => {
  let home: Home;
  let post: Post<unknown>;
  const arrived: { readonly payload: unknown; readonly context: Context<"handler", unknown> }[] = [];
  const Odd = withSchema(() => ({ value: thenable(() => undefined) }));
  const rows = async (sql: string): Promise<unknown> => (await home.rows?.(sql))?.[0]?.n;
  const stored = () =>
    rows("select (select count(*) from posthorn.message_1)::int + (select count(*) from posthorn.deferred)::int as n");
  const inside = (work: (tx: OwnTransaction) => Promise<unknown>) => home.transaction?.(work) ?? Promise.resolve();

  /** Every way of saying a command. Those in a transaction go on after the refusal and commit, so that half a message would stay. */
  const ways: Readonly<Record<string, Send>> = {
    "send()": (...said) => post.send(...said),
    "sendMany()": (contract, payload, options) =>
      post.sendMany(contract, contract === DoAny ? ["fine", payload] : [payload], options),
    "send() of a transaction": (...said) =>
      keepGoing((done) =>
        post.transaction(async ({ send }) => {
          try {
            send(...said);
          } catch (error) {
            done(error);
          }
        }),
      ),
    "in(tx).send()": (...said) =>
      keepGoing((done) =>
        inside((tx) =>
          post
            .in(tx)
            .send(...said)
            .catch(done),
        ),
      ),
  };

  beforeAll(async () => {
    home = await kind.open();
    post = posthorn({ service: serviceName(), database: home.input, migrate: "auto" });
    post
      .queue("received", decisions)
      .handle(DoReceive, (payload, context) => void arrived.push({ payload, context }))
      .handle(DoReceiveKeyed, (payload, context) => void arrived.push({ payload, context }));
    post.queue(queue, decisions).handle(Odd, (payload, context) => void arrived.push({ payload, context }));
    await post.start({ queues: ["received"] });
  });
  afterAll(async () => {
    await post?.stop();
    await home?.close();
  });

  const expectRefused = async (
    contract: typeof DoAny,
    payload: () => unknown,
    code: string,
    message: RegExp,
    options?: () => object,
  ) => {
    const before = await stored();
    for (const [way, send] of Object.entries(ways)) {
      const error = await rejected(send(contract, payload(), options?.()));
      expect([way, error.code]).toEqual([way, code]);
      // The name of the verb is its own; everything else is the same in all ways.
      expect(error.message.replace("sendMany()", "send()")).toMatch(message);
      expect(error.message.length).toBeLessThan(1_500);
    }
    expect(await stored()).toBe(before);
  };

  test.each(notJson)("a payload with %s is refused, with the place of it", async (_what, payload, message) => {
    await expectRefused(DoAny, payload, "PH_PAYLOAD_NOT_JSON", message);
  });
  test.each([undefined, Symbol("x"), () => 1, 1n, Number.NaN])("%s alone is no payload", async (payload) => {
    await expectRefused(
      DoAny,
      () => payload,
      "PH_PAYLOAD_NOT_JSON",
      /^The payload of DoAny cannot be stored as JSON: it is /,
    );
  });
  test.each(tooLarge)("a payload that is too large is refused: %s", async (_what, payload) => {
    await expectRefused(
      DoAny,
      payload,
      "PH_PAYLOAD_TOO_LARGE",
      /^The payload of DoAny takes \d+ bytes or more as JSON; at most 1048576 are allowed\. Store the data elsewhere/,
    );
  });
  test("a payload that does not fit its schema is refused, with the place of the first issue and the number of the others", async () => {
    const payload = () => ({ email: "no", lines: [{ cents: 1 }, { cents: 1.5 }] });
    await expectRefused(
      DoChecked as never,
      payload,
      "PH_PAYLOAD_INVALID",
      /^The payload of DoChecked does not fit its schema: email: .*\(and 1 more\)\.$/,
    );
  });
  test.each(badKeys)("a key that is %s is refused", async (_what, key, message) => {
    await expectRefused(
      withKey(() => key),
      () => ({}),
      "PH_KEY_INVALID",
      message,
    );
  });
  test("a key function that throws is refused, and its error is the cause", async () => {
    await expectRefused(
      withKey(throwing),
      () => ({}),
      "PH_SCHEMA_FAILED",
      /^The key function of DoKey\d+ threw: from inside/,
    );
    expect((await rejected(post.send(withKey(throwing), {}))).cause).toBeInstanceOf(RangeError);
  });
  test.each(badHeaders)("headers that are or hold %s are refused", async (_what, headers, code, message) => {
    await expectRefused(
      DoAny,
      () => ({}),
      code,
      message,
      () => ({ headers: headers() }),
    );
  });
  test.each(badOptions)("options that are or hold %s are refused", async (_what, options, code, message) => {
    await expectRefused(
      DoAny,
      () => ({}),
      code,
      message,
      () => options as object,
    );
  });
  test("an event cannot be delayed, scheduled, prioritised or made to expire", async () => {
    const before = await stored();
    for (const name of ["delayMs", "runAt", "priority", "dedupe", "expiresInMs"]) {
      const error = await rejected(post.publish(AnyHappened, {}, { [name]: 1 }));
      expect([error.code, error.message]).toEqual([
        "PH_OPTION_UNKNOWN",
        expect.stringContaining(`publish() has an unknown option "${name}"`),
      ]);
    }
    expect(await stored()).toBe(before);
  });
  test.each([
    ["a text", "abc"],
    ["one payload", { n: 1 }],
    ["nothing", undefined],
    ["a number", 5],
    ["an asynchronous iterable", (async function* () {})()],
  ])("%s is no list of payloads", async (_what, payloads) => {
    const before = await stored();
    for (const call of [
      () => post.sendMany(DoAny, payloads as never),
      () => post.publishMany(AnyHappened, payloads as never),
    ]) {
      const error = await rejected(call());
      expect([error.code, error.message]).toEqual([
        "PH_OPTION_INVALID",
        expect.stringMatching(
          /Many\(\w+, …\) takes an array or another iterable of payloads as its second argument, got /,
        ),
      ]);
    }
    expect(await stored()).toBe(before);
  });
  test("a list without end is refused at its limit", async () => {
    const before = await stored();
    const endless = (function* () {
      for (;;) yield 1;
    })();
    const error = await rejected(post.sendMany(DoAny, endless));
    expect([error.code, error.facts.max]).toEqual(["PH_PAYLOAD_TOO_LARGE", limits.sayMessages]);
    expect(await stored()).toBe(before);
  });

  test.each(badSchemas)("a schema that %s refuses the message", async (_what, validate, code, message) => {
    const contract = withSchema(validate);
    const before = await stored();
    for (const call of [
      () => post.send(contract, {}),
      () => post.sendMany(contract, [{}]),
      () => post.transaction(async ({ send }) => void send(contract, {})),
      () => inside((tx) => post.in(tx).send(contract, {})),
    ]) {
      const error = await rejected(call());
      expect([error.code, error.name]).toEqual([code, "ContractViolationError"]);
      expect(error.message).toMatch(message);
      expect(error.message).toContain(contract.name);
    }
    expect(await stored()).toBe(before);
  });

  // Five seconds, so once.
  test.runIf(kind.single)(
    "a schema that never answers refuses the message after its time, whatever the way",
    async () => {
      const before = await stored();
      const Silent = withSchema(() => new Promise(() => undefined));
      const errors = await Promise.all([
        rejected(post.send(Silent, {})),
        rejected(post.sendMany(Silent, [{}])),
        rejected(
          post.publish(
            event("SilentHappened", { topic: "facts", schema: Silent["~posthorn"].inside.schema as Schema }),
            {},
          ),
        ),
      ]);
      for (const error of errors) {
        expect([error.code, error.retryable]).toEqual(["PH_SCHEMA_TIMEOUT", true]);
        expect(error.message).toMatch(/could not be checked: the schema did not answer within 5000 ms/);
      }
      expect(await stored()).toBe(before);
    },
  );

  test.each([
    [
      "names of the prototype",
      JSON.parse(
        '{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},"hasOwnProperty":1,"toString":null}',
      ),
    ],
    [
      "names with SQL, quotes, dots and emoji",
      { "'; drop table posthorn.message_1; --": "$1", '"': "\\", "a.b[0]": "😀", "": "" },
    ],
    [
      "texts that look like escapes",
      ["\\u0000", "\\ud800", "\\\\u0000", "\u2028\u2029", "\u0001\u007f", "{}", "$$", "%s", "\\x00"],
    ],
    [
      "numbers at the edges",
      [0, Number.MAX_SAFE_INTEGER, 2 ** 53, -(2 ** 53), Number.MAX_VALUE, Number.MIN_VALUE, 1e21, 0.1 + 0.2],
    ],
    ["as deep as allowed", nested(limits.payloadDepth, (inner) => [inner])],
    ["null", null],
    ["false", false],
    ["an empty text", ""],
    ["emoji of many parts", "👩‍👩‍👧‍👦🏳️‍🌈é"],
    ["as large as allowed", "x".repeat(limits.payloadBytes - 2)],
  ])("a payload that is %s arrives as it was said", async (_what, payload) => {
    arrived.length = 0;
    const receipt = await post.send(DoReceive, payload);
    await eventually(() => arrived.length === 1);
    expect(JSON.stringify(arrived[0]?.payload)).toBe(JSON.stringify(payload));
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(({} as { admin?: unknown }).admin).toBeUndefined();
    expect(await rows("select count(*)::int as n from pg_class where relname = 'message_1'")).toBe(1);
  });

  test.each([
    ["SQL", "x'; drop schema posthorn cascade; --"],
    ["emoji", "😀".repeat(limits.keyBytes / 4)],
    ["quotes and backslashes", "\"'\\$1%s\n"],
    ["the prototype's name", "__proto__"],
    ["blanks", "  "],
  ])("a key of %s arrives as it was made", async (_what, key) => {
    arrived.length = 0;
    await post.send(DoReceiveKeyed, { key });
    await eventually(() => arrived.length === 1);
    expect(arrived[0]?.context.message.key).toBe(key);
  });

  test("headers with the prototype's name, SQL and emoji arrive, and nothing is polluted", async () => {
    arrived.length = 0;
    const headers = JSON.parse('{"__proto__":"a","constructor":"b","x\'; --":"😀","":""}') as Record<string, string>;
    await post.send(DoReceive, 1, { headers });
    await eventually(() => arrived.length === 1);
    const got = arrived[0]?.context.message.headers ?? {};
    expect(JSON.stringify(got)).toBe(JSON.stringify(headers));
    expect(Object.getPrototypeOf(got)).toBe(Object.prototype);
  });

  test("an output that looks like a promise is no reason to wait for it", async () => {
    await post.send(Odd, {});
    await post.transaction(async ({ send }) => void send(Odd, {}));
  });

  test("ids that are none, of another type or of hostile text are unknown messages", async () => {
    for (const id of [
      "",
      "1",
      "x'; --",
      "1-0000000000000000",
      "a\0b",
      "9".repeat(30),
      undefined,
      null,
      5,
      Symbol("id"),
      {},
      "😀",
      "1-0000000000000000\n",
    ]) {
      const error = await rejected(post.statusOf(id as string));
      expect([error.name, error.code]).toEqual(["UnknownMessageError", "PH_UNKNOWN_MESSAGE"]);
      expect(error.message).toMatch(/^No message has (this id:|the id) .*\. Is it whole/);
    }
  });

  test("a wrong wait is refused by settled() and result()", async () => {
    const receipt = await post.send(DoAny, {});
    for (const withinMs of ["5", Number.NaN, -0, -1, 2 ** 53, undefined]) {
      expect((await rejected(receipt.settled({ withinMs: withinMs as number }))).code).toMatch(
        /PH_OPTION_(INVALID|MISSING)/,
      );
    }
    expect((await rejected((receipt.settled as () => Promise<unknown>)())).code).toBe("PH_OPTION_INVALID");
    const { result } = Object.getPrototypeOf(receipt);
    for (const withinMs of ["5", -1, undefined]) {
      expect((await rejected(result.call(receipt, { withinMs }))).code).toMatch(/PH_OPTION_(INVALID|MISSING)/);
    }
    expect(await receipt.status()).toMatchObject({ state: "queued" });
  });
});

const DoReceive = command("DoReceive", { queue: "received", schema: type<unknown>() });
const DoReceiveKeyed = command("DoReceiveByKey", {
  queue: "received",
  schema: type<{ key: string }>(),
  key: ({ key }) => key,
});

/** Runs a transaction whose refusal is caught inside, and rejects with it once the transaction has committed. */
async function keepGoing(work: (done: (error: unknown) => void) => Promise<unknown>): Promise<never> {
  let refusal: unknown;
  await work((error) => {
    refusal = error;
  });
  throw refusal;
}
