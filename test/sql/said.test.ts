import { afterAll, beforeAll, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { publicId, Written, writeMessages } from "../../src/store/publish.js";
import { registerContract } from "../../src/store/registry.js";
import {
  claim,
  type Engine,
  failure,
  makeQueue,
  makeTopic,
  makeWorker,
  openEngine,
  openSession,
  outgoing,
  type Reader,
} from "./engine.js";

let engine: Engine;
let mail: Reader;
beforeAll(async () => {
  engine = await openEngine();
  mail = await makeQueue(engine, "mail");
  await makeTopic(engine, "Order", ["audit"]);
  const entry = { kind: "event", name: "StockMoved", version: 1, channel: "stock", keyed: true, owner: null };
  await registerContract(engine.db, entry, "test", true);
});
afterAll(() => engine.close());

async function stored(): Promise<unknown> {
  return engine.admin.value("select count(*)::int from posthorn.message_1");
}

function inJson(characters: number): string {
  return JSON.stringify("x".repeat(characters));
}

/** `call` is a piece of SQL; `$1` in it is the value. */
const refusals: readonly {
  readonly what: string;
  readonly call: string;
  readonly value?: string;
  readonly code: string;
}[] = [
  { what: "an unknown contract", call: "posthorn.publish('NobodyKnows', '{}'::json)", code: "PH010" },
  { what: "a contract called null", call: "posthorn.publish(null, '{}'::json)", code: "PH010" },
  {
    what: "a name with SQL in it",
    call: "posthorn.publish($1, '{}'::json)",
    value: "x'; drop schema posthorn cascade; --",
    code: "PH010",
  },
  {
    what: "a name of 10,000 letters",
    call: "posthorn.publish($1, '{}'::json)",
    value: "N".repeat(10_000),
    code: "PH010",
  },
  { what: "a command that is published", call: "posthorn.publish('Domail', '{}'::json)", code: "PH011" },
  { what: "an event that is sent", call: "posthorn.send('OrderHappened', '{}'::json)", code: "PH011" },
  { what: "a keyed event without a key", call: "posthorn.publish('StockMoved', '{}'::json)", code: "PH012" },
  {
    what: "a keyed event with an empty key",
    call: "posthorn.publish('StockMoved', '{}'::json, key => '')",
    code: "PH012",
  },
  {
    what: "an unkeyed event with an empty key",
    call: "posthorn.publish('OrderHappened', '{}'::json, key => '')",
    code: "PH012",
  },
  {
    what: "a key one byte too long",
    call: "posthorn.publish('StockMoved', '{}'::json, key => $1)",
    value: "k".repeat(limits.keyBytes + 1),
    code: "PH012",
  },
  {
    what: "a key too long in bytes, not in letters",
    call: "posthorn.publish('StockMoved', '{}'::json, key => $1)",
    value: "ä".repeat(limits.keyBytes / 2 + 1),
    code: "PH012",
  },
  { what: "a payload of SQL's null", call: "posthorn.send('Domail', null)", code: "PH013" },
  {
    what: "a payload with \\u0000",
    call: "posthorn.send('Domail', $1::json)",
    value: '{"a":"\\u0000"}',
    code: "PH013",
  },
  {
    what: "a name in the payload with \\u0000",
    call: "posthorn.send('Domail', $1::json)",
    value: '{"\\u0000":1}',
    code: "PH013",
  },
  { what: "a lone high surrogate", call: "posthorn.send('Domail', $1::json)", value: '["\\ud800"]', code: "PH013" },
  {
    what: "a lone low surrogate",
    call: "posthorn.send('Domail', $1::json)",
    value: '["\\udc00 later"]',
    code: "PH013",
  },
  {
    what: "surrogates in the wrong order",
    call: "posthorn.send('Domail', $1::json)",
    value: '["\\ude00\\ud83d"]',
    code: "PH013",
  },
  {
    what: "headers with \\u0000",
    call: "posthorn.send('Domail', '{}'::json, headers => $1::json)",
    value: '{"a":"\\u0000"}',
    code: "PH013",
  },
  {
    what: "a payload one byte too large",
    call: "posthorn.send('Domail', $1::json)",
    value: inJson(limits.payloadBytes - 1),
    code: "PH014",
  },
  {
    what: "headers one byte too large",
    call: "posthorn.send('Domail', '{}'::json, headers => $1::json)",
    value: JSON.stringify({ h: "x".repeat(limits.headersBytes - 7) }),
    code: "PH014",
  },
  { what: "text that is no JSON", call: "posthorn.send('Domail', $1::json)", value: "{", code: "22P02" },
];

test.each(refusals)("$what is refused with $code, and stores nothing", async ({ call, value, code }) => {
  const before = await stored();
  const error = await failure(engine.admin.rows(`select ${call}`, value === undefined ? [] : [value]));
  expect(error.code, error.message).toBe(code);
  // A refusal never repeats what it was given at length.
  expect(error.message.length).toBeLessThan(400);
  expect(await stored()).toBe(before);
});

const accepted: readonly { readonly what: string; readonly call: string; readonly value: string }[] = [
  {
    what: "a key at the limit",
    call: "posthorn.publish('StockMoved', '{}'::json, key => $1)",
    value: "k".repeat(limits.keyBytes),
  },
  { what: "a payload at the limit", call: "posthorn.send('Domail', $1::json)", value: inJson(limits.payloadBytes - 2) },
  {
    what: "headers at the limit",
    call: "posthorn.send('Domail', '{}'::json, headers => $1::json)",
    value: JSON.stringify({ h: "x".repeat(limits.headersBytes - 8) }),
  },
  { what: "a whole surrogate pair", call: "posthorn.send('Domail', $1::json)", value: '["\\ud83d\\ude00"]' },
];

test.each(accepted)("$what is stored", async ({ call, value }) => {
  const id = String(await engine.admin.value(`select ${call}`, [value]));
  expect(
    await engine.admin.value(
      "select count(*)::int from posthorn.message_1 where id = posthorn.id_of($1) and nonce = posthorn.nonce_of($1)",
      [id],
    ),
  ).toBe(1);
});

// Red as long as the insert takes JSON's null for SQL's: json_to_recordset gives null for both.
test("a payload of JSON's null is stored, from SQL and from the library", async () => {
  await engine.admin.rows("select posthorn.send('Domail', 'null'::json)");
  await writeMessages(engine.db, [{ ...outgoing(mail), json: "null" }]);
  const rows = await engine.admin.rows(
    "select payload::text as payload from posthorn.message_1 order by id desc limit 2",
  );
  expect(rows).toEqual([{ payload: "null" }, { payload: "null" }]);
});

test("a payload is stored as it was said, to the blank, and a handler gets it so", async () => {
  const text = '{ "b" : 1.50,\n "a":[1e2, "\\u00e4"], "b":2 }';
  await engine.admin.rows("select posthorn.send('Domail', $1::json, headers => '{\"trace\":\"t\"}')", [text]);
  expect(await engine.admin.value("select payload::text from posthorn.message_1 order by id desc limit 1")).toBe(text);
  const deliveries = await claim(engine.db, mail, await makeWorker(engine, [mail]), 1_000);
  expect(deliveries.at(-1)).toMatchObject({ payload: { a: [100, "ä"], b: 2 }, headers: { trace: "t" }, key: null });
});

test("what is said belongs to the caller's transaction: a rollback, also to a savepoint, leaves nothing", async () => {
  const session = await engine.session();
  const before = Number(await stored());
  await session.rows("create table purchase (n int)");
  await session.rows("begin");
  await session.rows("insert into purchase values (1)");
  await session.rows("select posthorn.publish('OrderHappened', '{}'::json)");
  expect(await stored(), "unseen by others").toBe(before);
  await session.rows("rollback");
  expect(await stored()).toBe(before);

  await session.rows("begin");
  await session.rows("select posthorn.publish('OrderHappened', '{\"kept\":true}'::json)");
  await session.rows("savepoint inner_part");
  await session.rows("select posthorn.publish('OrderHappened', '{}'::json)");
  await session.rows("rollback to savepoint inner_part");
  await session.rows("savepoint refused");
  await failure(session.rows("select posthorn.publish('NobodyKnows', '{}'::json)"));
  await session.rows("rollback to savepoint refused");
  await session.rows("commit");
  expect(await stored()).toBe(before + 1);
  expect(await session.value("select count(*)::int from purchase")).toBe(0);
  await session.close();
});

test.each(["read committed", "repeatable read", "serializable"])(
  "saying works inside a transaction at %s, and changes none of its settings",
  async (level) => {
    const session = await engine.session();
    await session.rows(`begin isolation level ${level}`);
    const settings =
      "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings where source = 'session'";
    const before = await session.value(settings);
    await session.rows("select posthorn.publish('OrderHappened', '{}'::json)");
    expect(await session.value(settings)).toBe(before);
    await session.rows("commit");
    await session.close();
  },
);

test("one statement says many messages, each with an id of its own", async () => {
  const rows = await engine.admin.rows(
    "select posthorn.publish('OrderHappened', json_build_object('n', n)) as id from generate_series(1, 500) n",
  );
  expect(new Set(rows.map(({ id }) => id)).size).toBe(500);
});

test("the id that SQL returns, the one of the library and what is stored are the same, for every sign of the nonce", async () => {
  const places = await writeMessages(
    engine.db,
    Array.from({ length: 64 }, () => outgoing(mail)),
  );
  expect(places.some(({ nonce }) => nonce.startsWith("-")) && places.some(({ nonce }) => !nonce.startsWith("-"))).toBe(
    true,
  );
  const edges = ["0", "1", "-1", "9223372036854775807", "-9223372036854775808"].map((nonce) => ({
    id: "9007199254740993",
    nonce,
  }));
  for (const { id, nonce } of [...places, ...edges]) {
    const shown = publicId({ id, nonce });
    const rows = await engine.admin.rows(
      "select posthorn.public_id($1::bigint, $2::bigint) as public, posthorn.id_of($3)::text as id, posthorn.nonce_of($3)::text as nonce",
      [id, nonce, shown],
    );
    expect(rows).toEqual([{ public: shown, id, nonce }]);
  }
});

test.each([
  "",
  "1",
  "1-",
  "-1-0000000000000000",
  "1-000000000000000G",
  "1-00000000000000000",
  "9999999999999999999-0000000000000000",
  "1-0000000000000000\n",
])("%j is no id: reading it gives null and no error", async (text) => {
  expect(
    await engine.admin.rows(
      "select posthorn.id_of($1) as id, posthorn.nonce_of($1) as nonce, posthorn.message_status($1)::text as status",
      [text],
    ),
  ).toEqual([{ id: null, nonce: null, status: null }]);
});

test("a fresh role may neither enter the schema nor use anything in it", async () => {
  const role = `stranger_${process.pid}`;
  await engine.admin.rows(`create role ${role} login`);
  const url = new URL(engine.url);
  url.username = role;
  const stranger = await openSession(url.href);
  try {
    expect(
      await engine.admin.value(
        "select has_schema_privilege($1, 'posthorn', 'usage') or has_schema_privilege($1, 'posthorn', 'create')",
        [role],
      ),
    ).toBe(false);
    const functions = await engine.admin.rows(
      "select p.oid::regprocedure::text as name, has_function_privilege($1, p.oid, 'execute') as open from pg_proc p where pronamespace = 'posthorn'::regnamespace",
      [role],
    );
    expect(functions.length).toBeGreaterThan(40);
    expect(functions.filter(({ open }) => open)).toEqual([]);
    const relations = await engine.admin.rows(
      `select c.relname from pg_class c where relnamespace = 'posthorn'::regnamespace and relkind in ('r', 'v', 'S') and
       case relkind when 'S' then has_sequence_privilege($1, c.oid, 'usage,select,update')
         else has_table_privilege($1, c.oid, 'select,insert,update,delete,truncate,references,trigger') end`,
      [role],
    );
    expect(relations).toEqual([]);
    for (const sql of [
      "select posthorn.publish('OrderHappened', '{}'::json)",
      "select * from posthorn.backlog",
      "select nextval('posthorn.message_id')",
    ]) {
      expect((await failure(stranger.rows(sql))).code, sql).toBe("42501");
    }
  } finally {
    await stranger.close();
    await engine.admin.rows(`drop role ${role}`);
  }
});

test("an answer of the insert names each message's place, with gaps between the ids and without", () => {
  const nonces = BigInt64Array.of(-1n, 0n, 7n);
  for (const [answer, ids] of [
    ["9007199254740993:9007199254740995 44", ["9007199254740993", "9007199254740994", "9007199254740995"]],
    ["5 7 8 44", ["5", "7", "8"]],
  ] as const) {
    const written = new Written(answer, nonces);
    expect([written.xid, written.length]).toEqual(["44", 3]);
    expect(ids.map((_, i) => written.at(i))).toEqual(ids.map((id, i) => ({ id, nonce: String(nonces[i]) })));
  }
  for (const answer of ["", "5 44", "5:6 44"]) {
    expect(() => new Written(answer, nonces), answer).toThrow("missing from the answer");
  }
});
