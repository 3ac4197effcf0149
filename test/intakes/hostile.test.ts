/**
 * Goal: whatever bytes a broker gives, an intake ends each message: it is in the log as it came, or in the list with its reason; it never loops, and holds up
 * nobody behind it.
 */
import { event, type } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type Carried, carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, onServer, rows, stored, unfit } from "./stage.js";

onServer();

const ThingHappened = event("ThingHappened", { topic: "anything", schema: type<unknown>() });
const binary = (id: string, body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): Carried => ({
  headers: { "ce-specversion": "1.0", "ce-id": id, "ce-source": "urn:hostile", "ce-type": "ThingHappened", ...headers },
  contentType: "application/json",
  body: Buffer.from(body),
});
const structured = (body: string): Carried => ({
  headers: {},
  contentType: "application/cloudevents+json",
  body: Buffer.from(body),
});

const deep = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;

/** With what is found in the list, or what is stored. */
const cases: readonly (readonly [what: string, message: Carried, ends: { reason: RegExp } | { text: string }])[] = [
  [
    "a body of 10 MB",
    binary("large", `"${"x".repeat(10_000_000)}"`),
    { reason: /has 10000002 bytes; at most 1048576/ },
  ],
  ["one beyond what is looked at", binary("huge", Buffer.alloc(17_000_000, 32)), { reason: /has 17000000 bytes/ }],
  ["no UTF-8", binary("latin", Buffer.from([0x22, 0xe9, 0x22])), { reason: /not text in UTF-8/ }],
  ["no JSON", binary("text", "{oops"), { reason: /not JSON/ }],
  ["nothing", binary("empty", ""), { text: "null" }],
  ["another content", { ...binary("xml", "<a/>"), contentType: "application/xml" }, { text: '"<a/>"' }],
  [
    "prototype names",
    binary("proto", '{"__proto__":{"admin":true},"constructor":1}'),
    { text: '{"__proto__":{"admin":true},"constructor":1}' },
  ],
  [
    "an attribute that is a prototype name",
    structured('{"specversion":"1.0","id":"p","source":"urn:h","type":"ThingHappened","__proto__":"x","data":1}'),
    { reason: /lower-case letters and digits/ },
  ],
  ["a type that is a prototype name", binary("type", "1", { "ce-type": "__proto__" }), { reason: /has its type/ }],
  ["64 levels", binary("deep", deep(64)), { text: deep(64) }],
  ["65 levels", binary("deeper", deep(65)), { reason: /nesting of more than 64 levels/ }],
  ["a million levels", binary("deepest", deep(500_000)), { reason: /cannot be read|nesting/ }],
  [
    "a million levels around the event",
    structured(`{"specversion":"1.0","id":"d","source":"urn:h","type":"ThingHappened","data":${deep(500_000)}}`),
    { reason: /cannot be read|nesting/ },
  ],
  ["a NUL character", binary("nul", '{"a":"\\u0000"}'), { reason: /NUL character/ }],
  ["half a character", binary("half", '{"a":"\\uD800"}'), { reason: /surrogate/ }],
  ["the same in small letters", binary("half-small", '["\\udc00"]'), { reason: /surrogate/ }],
  ["a NUL character in a header", binary("nul-header", "1", { note: "a\0b" }), { reason: /headers.*NUL/ }],
  ["half a character in a header", binary("half-header", "1", { note: "\ud800" }), { reason: /headers.*surrogate/ }],
  [
    "10,000 headers",
    binary("bomb", "1", Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`h${i}`, "x"]))),
    { reason: /headers have \d+ bytes/ },
  ],
  ["a header of a megabyte", binary("long-header", "1", { note: "x".repeat(1_000_000) }), { reason: /headers have/ }],
  [
    "numbers that are none here",
    binary("number", "[1e400,12345678901234567890]"),
    { text: "[1e400,12345678901234567890]" },
  ],
  ["spaces", binary("spaces", ' {\n "a" : 1 } '), { text: '{\n "a" : 1 }' }],
  ["a version that is no number", binary("version", "1", { "ce-contractversion": "x" }), { reason: /version "x"/ }],
  [
    "a version of tomorrow",
    binary("tomorrow", "1", { "ce-contractversion": "2" }),
    { reason: /version "2" .* known are 1/ },
  ],
  ["an empty id", binary("", "1"), { reason: /attribute id is missing/ }],
  ["an id of a megabyte", binary("y".repeat(1_000_000), '"long id"'), { text: '"long id"' }],
  [
    "a header that says who caused it",
    binary("forged", '"forged"', { "~posthorn": "5 a b C", "~Posthorn-x": "1" }),
    { text: '"forged"' },
  ],
  [
    "several events at once",
    { headers: {}, contentType: "application/cloudevents-batch+json", body: Buffer.from("[]") },
    { reason: /not understood/ },
  ],
];

test("hostile input ends in the log as it came, or in the list with its reason, and holds up nobody", async () => {
  const broker = new MemoryBroker();
  const name = fresh("hostile");
  const post = instance();
  post.intake(name, { from: broker, into: [ThingHappened] });
  broker.put(...cases.map(([, message]) => message), carried(cloudEvent("ThingHappened", "the last one")));
  await post.start();
  await eventually(() => broker.left === 0);
  const inLog = await stored("ThingHappened");
  const texts = cases.flatMap(([, , ends]) => ("text" in ends ? [ends.text] : []));
  expect(inLog.map(({ text }) => text)).toEqual([...texts, '"the last one"']);
  const kept = await unfit(name);
  const reasons = cases.flatMap(([what, , ends]) => ("reason" in ends ? [[what, ends.reason] as const] : []));
  expect(kept).toHaveLength(reasons.length);
  for (const [i, [what, reason]] of reasons.entries()) expect(kept[i]?.reason, what).toMatch(reason);
  expect(inLog.find(({ text }) => text === '"forged"')?.headers).toBeNull();
  // What is kept can be read again, or says that it is not whole.
  expect(kept.filter(({ whole }) => !whole).map(({ reason }) => reason.slice(0, 30))).toHaveLength(4);
  expect(Number(kept[0]?.bytes)).toBe(10_000_002);
  expect(kept[0]?.body).toHaveLength(10_000_002);
  expect(kept[1]?.body).toHaveLength(65_536);
  // They come again: nothing is written, and nothing listed twice.
  broker.put(...cases.map(([, message]) => message));
  await eventually(() => broker.left === 0);
  expect(await stored("ThingHappened")).toHaveLength(inLog.length);
  expect(await unfit(name)).toHaveLength(kept.length);
  expect(await intakeRow(name)).toMatchObject({ trouble: null, away_since: null });
});

test("what the database alone refuses is found among the others and listed, and those before and behind it are written", async () => {
  const broker = new MemoryBroker();
  const name = fresh("refused");
  const post = instance();
  post.intake(name, { from: broker, into: [ThingHappened] });
  await rows(`create function posthorn.refuse_one() returns trigger language plpgsql as $$ begin
    if new.payload::text = '"poison"' then raise exception 'division by zero' using errcode = '22012'; end if; return new; end $$`);
  await rows(
    "create trigger refuse_one before insert on posthorn.message_1 for each row execute function posthorn.refuse_one()",
  );
  broker.put(...Array.from({ length: 21 }, (_, i) => cloudEvent("ThingHappened", i === 13 ? "poison" : `fine-${i}`)));
  await post.start();
  await eventually(() => broker.left === 0);
  await rows("drop trigger refuse_one on posthorn.message_1");
  const written = (await stored("ThingHappened"))
    .map(({ payload }) => payload)
    .filter((text) => String(text).startsWith("fine-"));
  expect(written).toEqual(Array.from({ length: 21 }, (_, i) => `fine-${i}`).filter((_, i) => i !== 13));
  expect((await unfit(name)).map(({ reason }) => reason)).toEqual([
    "the database does not take it: division by zero (22012)",
  ]);
});

// A broker that counts how often a message comes, as a queue with a delivery limit, had dropped it after as many seconds.
test("what neither the log nor the list takes is told, and waits with the connection open until one of them does", async () => {
  const broker = new MemoryBroker();
  const name = fresh("nowhere");
  const post = instance();
  post.intake(name, { from: broker, into: [ThingHappened] });
  await rows("create sequence posthorn.refusals");
  await rows(`create function posthorn.refuse_all() returns trigger language plpgsql as $$ begin
    perform nextval('posthorn.refusals'); raise exception 'no room in %', tg_table_name using errcode = '22023'; end $$`);
  const both = ["message_1", "intake_invalid"];
  for (const table of both) {
    await rows(
      `create trigger refuse_all before insert on posthorn.${table} for each row execute function posthorn.refuse_all()`,
    );
  }
  broker.put(cloudEvent("ThingHappened", "nowhere"));
  await post.start();
  await eventually(async () => (await intakeRow(name)).trouble?.includes("no room in intake_invalid"));
  // In the log and in the list, for each attempt, with pauses between them that grow.
  const refusals = async () =>
    (await rows<{ n: number }>("select last_value::int as n from posthorn.refusals"))[0]?.n ?? 0;
  await eventually(async () => (await refusals()) >= 8);
  expect([broker.opened.length, broker.given]).toEqual([1, 1]);
  // So that the alert `intakeAwayMs` says it.
  expect((await intakeRow(name)).away_since).not.toBeNull();
  for (const table of both) await rows(`drop trigger refuse_all on posthorn.${table}`);
  await eventually(() => broker.left === 0);
  expect((await stored("ThingHappened")).filter(({ payload }) => payload === "nowhere")).toHaveLength(1);
  expect(await unfit(name)).toEqual([]);
});
