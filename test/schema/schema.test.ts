import { Client } from "pg";
import { command, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openDatabase } from "../../src/databases/open.js";
import { makeRoles } from "../../src/store/roles.js";
import { checkSchema, databaseIn, scriptIn, settings, statementIn } from "../../src/store/schema.js";
import { sqlFiles } from "../../src/store/sql.gen.js";
import { posthornCommand, project } from "../cli/command.js";
import { CallOutside, OrderPlaced, WriteRow } from "../failure/fixtures/contracts.js";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

const schemas = ["posthorn_a", "acme", "posthorn"] as const;
type Schema = (typeof schemas)[number];

let place: TestDatabase;
let client: Client;
const posts = new Map<Schema, Post<Sql>>();
const post = (schema: Schema): Post<Sql> => {
  const made =
    posts.get(schema) ??
    posthorn({ service: "till", database: place.url, schema, migrate: "auto", logger: silentLogger });
  posts.set(schema, made);
  return made;
};

beforeAll(async () => {
  place = await createDatabase({ empty: true });
  client = new Client({ connectionString: place.url });
  await client.connect();
  await client.query(
    "create table effect (reader text not null, n int not null, attempt int, pid int, at timestamptz not null default clock_timestamp())",
  );
  for (const schema of schemas) await post(schema).migrate();
});
afterAll(async () => {
  await Promise.all([...posts.values()].map((one) => one.stop()));
  await client.end();
  await place.drop();
});

const rows = async <Row extends object>(sql: string, values: readonly unknown[] = []): Promise<Row[]> =>
  (await client.query<Row>(sql, [...values])).rows;

async function spawn(schema: Schema): Promise<FixtureProcess> {
  const args = [JSON.stringify({ url: place.url, schema, workerTimeoutMs: 3_000 })];
  return spawnFixture("test/failure/fixtures/worker.ts", { args });
}

/** All of its numbers took effect as its queues promise, in processes of its own. */
async function judge(schema: Schema, pids: ReadonlySet<number>): Promise<void> {
  await eventually(
    async () =>
      (await rows<{ left: string }>(`select sum(backlog + running)::text as left from ${schema}.backlog`))[0]?.left ===
      "0",
    { withinMs: 120_000, everyMs: 100 },
  );
  const numbers = Array.from({ length: 160 }, (_, i) => (schema === "acme" ? 10_001 : 1) + i);
  for (const reader of ["rows", "ledger"]) {
    const done = await rows<{ n: number }>(
      "select n from effect where reader = $1 and n between $2 and $3 order by n",
      [reader, numbers[0], numbers.at(-1)],
    );
    expect(
      done.map(({ n }) => n),
      `${schema} ${reader}`,
    ).toEqual(numbers);
  }
  const outside = await rows<{ n: number }>(
    "select distinct n from effect where reader = 'outside' and n between $1 and $2 order by n",
    [numbers[0], numbers.at(-1)],
  );
  expect(outside.map(({ n }) => n)).toEqual(numbers);
  const strangers = await rows("select n, pid from effect where n between $1 and $2 and pid <> all ($3)", [
    numbers[0],
    numbers.at(-1),
    [...pids],
  ]);
  expect(strangers, schema).toEqual([]);
  expect(await rows(`select * from ${schema}.dead_letters`)).toEqual([]);
}

test("two installations in one database with the same service, queues and topic, whose workers are killed, share nothing and lose nothing", async () => {
  // Goal: locks, wake-ups, positions, ids and rescue are each installation's own. Method: both say the same contracts with numbers of their own, and
  // workers of both are killed; who took a number is looked up by its process.
  const pids = new Map<Schema, Set<number>>([
    ["posthorn_a", new Set()],
    ["acme", new Set()],
  ]);
  const both = ["posthorn_a", "acme"] as const;
  const begin = async (schema: (typeof both)[number]) => {
    const worker = await spawn(schema);
    pids.get(schema)?.add(worker.pid);
    await worker.line("works");
    return worker;
  };
  const subscribed = await Promise.all(both.map(begin));
  const say = async (schema: (typeof both)[number], from: number, count: number): Promise<void> => {
    for (let n = from; n < from + count; n += 5) {
      const work = [0, 1, 2, 3, 4].map((i) => ({ n: n + i, act: "storm" }));
      await post(schema).sendMany(WriteRow, work);
      await post(schema).sendMany(CallOutside, work);
      await post(schema).publishMany(OrderPlaced, work);
    }
  };
  const kills = async (schema: (typeof both)[number], first: FixtureProcess) => {
    let worker = first;
    for (let i = 0; i < 4; i += 1) {
      const effects = "select count(*)::int as count from effect";
      const [before] = await rows<{ count: number }>(effects);
      await say(schema, (schema === "acme" ? 10_001 : 1) + i * 40, 40);
      await eventually(
        async () => ((await rows<{ count: number }>(effects))[0]?.count ?? 0) > (before?.count ?? 0) + 5,
      );
      worker.kill();
      await worker.exited;
      worker = await begin(schema);
    }
    return worker;
  };
  const [a, b] = subscribed;
  if (a === undefined || b === undefined) throw new Error("no workers");
  const last = await Promise.all([kills("posthorn_a", a), kills("acme", b)]);
  for (const schema of both) await judge(schema, pids.get(schema) ?? new Set());
  // The third one has seen nothing of it.
  expect(await rows("select * from posthorn.worker")).toEqual([]);
  expect(await rows("select id from posthorn.message_1")).toEqual([]);
  for (const worker of last) {
    worker.say("stop");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
  }
}, 240_000);

test("one transaction may say in two installations, and a rollback takes both back", async () => {
  for (const end of ["rollback", "commit"]) {
    await client.query("begin");
    const first = await post("posthorn_a").in(client).send(WriteRow, { n: 50_000 });
    const second = await post("acme").in(client).send(WriteRow, { n: 50_001 });
    await client.query(end);
    const found = async (schema: string, id: string) =>
      rows(`select 1 from ${schema}.message_1 where id = ${schema}.id_of($1)`, [id]);
    expect([(await found("posthorn_a", first.id)).length, (await found("acme", second.id)).length]).toEqual(
      end === "commit" ? [1, 1] : [0, 0],
    );
  }
  const [sent] = await rows<{ id: string }>("select acme.send('WriteRow', '{\"n\":50002}') as id");
  expect(await post("acme").statusOf(sent?.id ?? "")).toMatchObject([{ state: "queued" }]);
  await expect(post("posthorn_a").statusOf(sent?.id ?? "")).rejects.toMatchObject({ code: "PH_UNKNOWN_MESSAGE" });
});

test("values that speak of posthorn are stored as they were said", async () => {
  const Note = command("KeepNote", {
    queue: "notes",
    schema: type<{ text: string; reader: string }>(),
    key: ({ reader }) => reader,
  });
  const said = {
    text: "select posthorn.work('it''s', to_regclass('posthorn.ring')) \"posthorn.x\"",
    reader: "posthorn.reader",
  };
  await post("acme").send(Note, said);
  await post("acme").transaction(async ({ send, tx }) => {
    const { rows: own } = await tx.query<{ there: boolean }>(
      "select to_regclass('posthorn.ring') is not null as there",
    );
    expect(own).toEqual([{ there: true }]);
    send(Note, said);
  });
  const stored = await rows("select payload, key from acme.message_1 where key is not null");
  expect(stored).toEqual([
    { payload: said, key: said.reader },
    { payload: said, key: said.reader },
  ]);
});

test("lock keys, the channel of wake-ups and roles are named after the schema", async () => {
  const [keys] = await rows<{ a: string; b: string }>(
    "select posthorn_a.lock_key('lane', 1, 0) as a, acme.lock_key('lane', 1, 0) as b",
  );
  expect(keys?.a).not.toBe(keys?.b);
  const database = databaseIn("acme", await openDatabase(place.url));
  await makeRoles(database);
  await database.close();
  const names = await rows("select rolname from pg_roles where rolname like 'acme\\_%' order by 1");
  expect(names).toEqual([{ rolname: "acme_observer" }, { rolname: "acme_producer" }, { rolname: "acme_worker" }]);
  const [may] =
    await rows(`select has_schema_privilege('acme_producer', 'acme', 'usage') as own, has_schema_privilege('acme_producer', 'posthorn', 'usage') as other,
    has_function_privilege('acme_producer', 'acme.send(text, json, text, json, json, int)', 'execute') as sends`);
  expect(may).toEqual({ own: true, other: false, sends: true });
  await rows(
    "drop owned by acme_producer, acme_worker, acme_observer; drop role acme_producer, acme_worker, acme_observer",
  );
  const heard: string[] = [];
  const listener = new Client({ connectionString: place.url });
  await listener.connect();
  listener.on("notification", ({ channel }) => heard.push(channel));
  await listener.query("listen acme_wake; listen posthorn_a_wake");
  await rows(
    "insert into acme.worker (service, host, pid, timeout_ms, session_key, backends, oldest_open_claim) values ('x', 'x', 1, 1000, 1, '[]', 0)",
  );
  await rows("select acme.wake('1')");
  await eventually(async () => heard.length > 0);
  expect(heard).toEqual(["acme_wake"]);
  await rows("delete from acme.worker");
  await listener.end();
});

test("nothing in a schema names another, but for the settings that are the same in all", async () => {
  const { rows: functions } = await client.query<{ name: string; body: string }>(
    "select oid::regprocedure::text as name, pg_get_functiondef(oid) as body from pg_proc where pronamespace = 'acme'::regnamespace",
  );
  expect(functions.length).toBeGreaterThan(100);
  const known = new RegExp(`posthorn\\.(${settings.join("|")})\\b`, "g");
  const left = functions.filter(({ body }) => body.replace(known, "").includes("posthorn"));
  expect(left.map(({ name }) => name)).toEqual([]);
  // A setting that is not in the list would be another one in each schema, and the code that sets it would not know.
  const used = sqlFiles.flatMap(({ text }) =>
    [...text.matchAll(/(?:current_setting|set_config)\('posthorn\.(\w+)'/g)].map(([, name]) => name),
  );
  expect(new Set(used)).toEqual(new Set(settings));
  const depends =
    await rows(`select distinct n.nspname from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class
    join pg_class c on c.oid = d.refobjid join pg_namespace n on n.oid = c.relnamespace where v.relnamespace = 'acme'::regnamespace and d.refclassid = 'pg_class'::regclass`);
  expect(depends).toEqual([{ nspname: "acme" }]);
});

describe("names", () => {
  test.each([
    "",
    "Posthorn",
    "pg_posthorn",
    "public",
    "information_schema",
    "user",
    "select",
    "a-b",
    "a.b",
    'a"b',
    "1a",
    "a b",
    "a".repeat(41),
    7,
    null,
  ])("%j is refused before anything is opened", (schema) => {
    const make = () => posthorn({ service: "till", database: place.url, schema: schema as string });
    expect(make).toThrow(expect.objectContaining({ code: "PH_NAME_INVALID" }));
  });

  test("those that are accepted can be used without quotes", async () => {
    for (const name of ["a", "posthorn_a", "order_queue", "x1_", "a".repeat(40)]) {
      expect(checkSchema(name, "schema")).toBe(name);
      await client.query(`create schema ${name === "posthorn_a" ? "posthorn_b" : name}`);
    }
    const reserved = await rows<{ word: string }>("select word from pg_get_keywords() where catcode in ('R', 'T')");
    for (const { word } of reserved) expect(() => checkSchema(word, "schema"), word).toThrow("schema must be");
  });
});

test("statements are rewritten outside of literals and quoted names alone", () => {
  expect(
    statementIn(
      "acme",
      "select posthorn.send('posthorn.x', 'it''s posthorn.y'), to_regclass('posthorn.ring'), \"posthorn.z\", xposthorn.a",
    ),
  ).toBe("select acme.send('posthorn.x', 'it''s posthorn.y'), to_regclass('acme.ring'), \"posthorn.z\", xposthorn.a");
  expect(
    scriptIn("acme", "create schema posthorn; select current_setting('posthorn.home', true), 'posthorn:lock'"),
  ).toBe("create schema acme; select current_setting('posthorn.home', true), 'acme:lock'");
});

test("the embedded database holds several installations as well, and the command line finds the one that it is told", async () => {
  const pglite = await createPglite({ empty: true });
  for (const schema of ["one", "two"]) {
    const own = posthorn({ service: "till", database: pglite, schema, logger: silentLogger });
    const seen: number[] = [];
    own.queue("rows", policies.rollUp).handle(WriteRow, ({ n }) => void seen.push(n));
    await own.start();
    await own.send(WriteRow, { n: 1 });
    await own.untilIdle();
    expect(seen).toEqual([1]);
    await own.stop();
  }
  await pglite.close();
  const folder = await project({});
  const status = async (schema: string) => {
    const { out } = await posthornCommand(["status", "--json", "--database", place.url, "--schema", schema], {
      cwd: folder,
    });
    return JSON.parse(out);
  };
  expect((await status("acme")).lines.map(({ name }: { name: string }) => name)).toContain("rows");
  expect((await status("missing_one")).error).toMatchObject({ code: "PH_SCHEMA_MISSING" });
  expect((await status("Missing")).error).toMatchObject({ code: "PH_NAME_INVALID" });
});
