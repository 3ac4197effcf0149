import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openDatabase } from "../../src/databases/open.js";
import { command, event, type Post, policies, posthorn, RetryLater, retry, type Sql, type } from "../../src/index.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { makeRoles } from "../../src/store/roles.js";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";

type Role = "producer" | "worker" | "observer";
const roles: readonly Role[] = ["producer", "worker", "observer"];

/** Roles belong to the whole server, so this file has one of its own. */
let server: OwnServer;
let url: string;
const admins: Client[] = [];
const posts: Post<Sql>[] = [];

const as = (user: string): string => {
  const own = new URL(url);
  own.username = user;
  return own.href;
};

async function client(user: string): Promise<Client> {
  const one = new Client({ connectionString: as(user) });
  one.on("error", () => undefined);
  await one.connect();
  admins.push(one);
  return one;
}

beforeAll(async () => {
  server = await startServer();
  const setup = new Client({ connectionString: server.url() });
  await setup.connect();
  // As most installations are: the owner is no superuser, and may make roles.
  await setup.query("create role owner login createrole");
  await setup.query("create database shop owner owner");
  for (const role of roles) await setup.query(`create role my_${role} login`);
  await setup.query("create role stranger login");
  await setup.end();
  url = server.url("shop");
  const database = await openDatabase(as("owner"));
  await ensureSchema(database, "auto");
  await makeRoles(database);
  await makeRoles(database);
  await database.close();
  const owner = await client("owner");
  for (const role of roles) await owner.query(`grant posthorn_${role} to my_${role}`);
  await owner.query("create table public.effect (n int); grant select, insert on public.effect to my_worker");
});
afterAll(async () => {
  await Promise.all(posts.map((post) => post.stop()));
  await Promise.all(admins.map((one) => one.end().catch(() => undefined)));
  await server.remove();
});

function make(user: string): Post<Sql> {
  const service = `${user}-${randomBytes(4).toString("hex")}`;
  const post = posthorn({ service, database: as(user), migrate: "check", logger: silentLogger });
  posts.push(post);
  return post;
}

const Write = command("WriteEffect", {
  queue: "writing",
  schema: type<{ n: number }>(),
  result: type<{ n: number }>(),
});
const Call = command("CallAway", { queue: "calling", schema: type<{ n: number }>(), key: ({ n }) => String(n % 2) });
const Once = command("FireOnce", { queue: "firing", schema: type<object>() });
const Tick = command("TickClock", { queue: "ticking", schema: type<object>() });
const Many = command("TakeMany", { queue: "taking", schema: type<{ n: number }>() });
const Written = event("EffectWritten", { topic: "effects", schema: type<{ n: number }>() });
const Placed = event("OrderPlaced", { topic: "orders", schema: type<{ n: number }>() });

/** Every way of working that there is. */
function declareAll(worker: Post<Sql>, seen: string[]): void {
  const limited = { rateLimit: { messages: 1_000, perMs: 1_000 }, fleetConcurrency: 10 };
  worker
    .queue("writing", {
      ...policies.rollUp,
      results: { keepMs: 60_000 },
      ...limited,
      backlogLimit: { messages: 1_000, whenFull: "reject" },
    })
    .handle(Write, async ({ n }, { tx, publish, progress }) => {
      progress({ n });
      await tx.query("insert into public.effect values ($1)", [n]);
      if (n === 1) publish(Written, { n });
      return { n };
    });
  worker
    .queue("calling", {
      ...policies.notify,
      retry: retry.exponential({ attempts: 5, firstMs: 10, maxMs: 20 }),
      ordering: { per: "key", whenDead: "park" },
      circuitBreaker: { failures: 50, windowMs: 10_000, openMs: 1_000 },
    })
    .handle(Call, async ({ n }, { attempt, step, send }) => {
      await step("once", async () => ({ n }));
      if (n === 2 && attempt === 1) throw new Error("again");
      if (n === 3 && !seen.includes("put off")) {
        seen.push("put off");
        throw new RetryLater(10);
      }
      if (n === 4) send(Once, {});
      seen.push(`called ${n}`);
    });
  worker
    .queue("firing", { ...policies.notify, retry: retry.none, idempotency: "at-most-once" } as never)
    .handle(Once, async () => void seen.push("fired"));
  worker.queue("ticking", policies.notify).handle(Tick, async () => void seen.push("ticked"));
  worker
    .queue("taking", policies.rollUp)
    .handleMany(Many, { size: 10, maxWaitMs: 0 }, async (messages) => void seen.push(`took ${messages.length}`));
  worker
    .subscription("mirror", { topic: "orders", ...policies.notify })
    .on(Placed, async () => void seen.push("heard"));
  worker.schedule("clock", {
    cron: "* * * * * *",
    timeZone: "UTC",
    command: Tick,
    payload: {},
    missed: "skip",
  } as never);
}

test("with the role of a worker and of a producer alone, everything that processes do is done", async () => {
  // Goal: no function that a producer or a worker calls is missing in its role, in any mode, also after the migration was run again.
  const worker = make("my_worker");
  const seen: string[] = [];
  declareAll(worker, seen);
  await worker.start();

  const producer = make("my_producer");
  const receipt = await producer.send(Write, { n: 1 });
  expect(await receipt.result({ withinMs: 60_000 })).toEqual({ n: 1 });
  await producer.transaction(async ({ send }) => {
    for (let n = 1; n <= 6; n += 1) send(Call, { n });
  });
  await producer.sendMany(Many, [{ n: 1 }, { n: 2 }]);
  await producer.send(Write, { n: 2 }, { dedupe: { key: "same", mode: "drop", windowMs: 3_600_000 } } as never);
  await producer.send(Write, { n: 3 }, { priority: 1, expiresInMs: 60_000 });
  const delayed = await producer.send(Write, { n: 4 }, { delayMs: 3_600_000 });
  expect(await delayed.cancel()).toBeTruthy();
  await producer.publish(Placed, { n: 2 });
  const wanted = ["put off", "fired", "ticked", "heard", ...[1, 2, 3, 4, 5, 6].map((n) => `called ${n}`)];
  await eventually(async () => wanted.every((one) => seen.includes(one)), { withinMs: 60_000 });

  const sql = await client("my_producer");
  const id = (await sql.query("select posthorn.send('WriteEffect', '{\"n\":5}') as id")).rows[0]?.id;
  expect(await producer.receipt(id).settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  await sql.query("select posthorn.publish('OrderPlaced', '{\"n\":6}')");
  expect((await (await client("owner")).query("select cancelled_by from posthorn.cancelled")).rows).not.toEqual([
    { cancelled_by: "owner" },
  ]);
  await worker.untilIdle();
  await worker.stop();
});

describe("what a role may not", () => {
  const refused = async (user: string, sql: string): Promise<unknown> => {
    const one = await client(user);
    const error: unknown = await one.query(sql).then(
      () => "was done",
      (reason: unknown) => reason,
    );
    await one.end();
    return typeof error === "object" && error !== null && "code" in error ? error.code : error;
  };

  test.each([
    ["my_producer", "select posthorn.work(1, 0, 1::bigint, 10, null)"],
    ["my_producer", "select posthorn.take_due(1, 1::bigint, '[]', 1)"],
    ["my_producer", "select posthorn.register_worker('x', 'x', 1, 1, null, '[]', '[]')"],
    ["my_producer", "select * from posthorn.message_1"],
    ["my_producer", "insert into posthorn.claim_1 default values"],
    ["my_producer", "select * from posthorn.backlog"],
    ["my_producer", "select posthorn.letters('{}', 1)"],
    ["my_worker", "delete from posthorn.dead_letter"],
    ["my_worker", "select payload from posthorn.message_1"],
    ["my_worker", "select posthorn.redrive('{}', 'me', 1)"],
    ["my_worker", "truncate posthorn.message_1"],
    ["my_worker", "drop table posthorn.message_1"],
    ["my_worker", "create table posthorn.mine ()"],
    ["my_observer", "select posthorn.send('WriteEffect', '{}')"],
    ["my_observer", "select posthorn.redrive('{}', 'me', 1)"],
    ["my_observer", "select posthorn.discard('{}', 'me', 'why', 1)"],
    ["my_observer", "select posthorn.cancel('1-0000000000000000')"],
    ["my_observer", "delete from posthorn.workers"],
    ["my_observer", "update posthorn.subscription set name = name"],
    ["my_observer", "select * from posthorn.message_1"],
    ["stranger", "select posthorn.send('WriteEffect', '{}')"],
    ["stranger", "select * from posthorn.backlog"],
  ])("%s is refused: %s", async (user, sql) => {
    expect(await refused(user, sql)).toBe("42501");
  });

  test("no role has a right on a table but to read the few that are named, and none on a sequence", async () => {
    const owner = await client("owner");
    const { rows } = await owner.query(`
      select r.rolname as role, c.relname as name, p.privilege from pg_class c, pg_roles r,
        unnest(array['select','insert','update','delete','truncate','references','trigger']) p(privilege)
      where c.relnamespace = 'posthorn'::regnamespace and c.relkind in ('r', 'v', 'p', 'm') and r.rolname like 'posthorn\\_%'
        and has_table_privilege(r.oid, c.oid, p.privilege) and c.relkind <> 'v'
      order by 1, 2, 3`);
    const both = ["installation", "migration", "ring"];
    const expected = [
      ...both.map((name) => ({ role: "posthorn_observer", name, privilege: "select" })),
      { role: "posthorn_observer", name: "subscription", privilege: "select" },
      ...both.map((name) => ({ role: "posthorn_producer", name, privilege: "select" })),
      { role: "posthorn_worker", name: "attendance", privilege: "select" },
      ...both.map((name) => ({ role: "posthorn_worker", name, privilege: "select" })),
    ];
    expect(rows).toEqual(expected);
    const sequences =
      await owner.query(`select c.relname from pg_class c, pg_roles r where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'S'
      and (r.rolname like 'posthorn\\_%' or r.rolname = 'stranger') and has_sequence_privilege(r.oid, c.oid, 'usage,select,update')`);
    expect(sequences.rows).toEqual([]);
    const views =
      await owner.query(`select r.rolname, c.relname from pg_class c, pg_roles r, unnest(array['insert','update','delete','truncate']) p
      where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'v' and r.rolname like 'posthorn\\_%' and has_table_privilege(r.oid, c.oid, p)`);
    expect(views.rows).toEqual([]);
  });

  test("what runs with the owner's rights looks for names in no schema of the caller's", async () => {
    const owner = await client("owner");
    const { rows } = await owner.query(
      "select proname, proconfig from pg_proc where pronamespace = 'posthorn'::regnamespace and prosecdef and not (proconfig @> array['search_path=pg_catalog, pg_temp'])",
    );
    expect(rows).toEqual([]);
    // A caller's own `now()` is not called.
    const producer = await client("my_worker");
    await owner.query("create schema evil; grant all on schema evil to my_worker");
    await producer.query("set search_path = evil, pg_catalog");
    await producer.query(
      "create function evil.clock_timestamp() returns timestamptz language plpgsql as $$ begin raise exception 'called as %', current_user; end $$",
    );
    expect((await producer.query("select posthorn.send('WriteEffect', '{\"n\":9}') as id")).rows[0]?.id).toMatch(
      /^\d+-/,
    );
  });
});

// Before, a rescuer ended with the owner's rights whatever process a worker had registered as its own.
test("a worker has a rescuer end no session but its own", async () => {
  const [owner, worker, admin] = [await client("owner"), await client("my_worker"), await client("postgres")];
  const backend = async (of: Client) =>
    (
      await admin.query("select pid, backend_start::text as started from pg_stat_activity where pid = $1", [
        (await of.query("select pg_backend_pid() as pid")).rows[0].pid,
      ])
    ).rows[0];
  const other = await client("my_worker");
  await admin.query("grant pg_signal_backend, pg_read_all_stats to owner");
  const backends = JSON.stringify([await backend(owner), await backend(other)]);
  const register = "select posthorn.register_worker('evil', 'here', 1, 1000, null, $1::json, '[]'::json) as id";
  const { id } = (await worker.query(register, [backends])).rows[0];
  await worker.query("select posthorn.register_worker('rescuer', 'here', 1, 60000, null, '[]', '[]')");
  await admin.query("update posthorn.worker set heartbeat_at = '-infinity' where id = $1", [id]);
  await eventually(async () => {
    await worker.query("select posthorn.rescue(100)");
    return (await admin.query("select from posthorn.worker where id = $1", [id])).rows.length === 0;
  });
  await owner.query("select 1");
  await expect(other.query("select 1")).rejects.toThrow();
  await admin.query("delete from posthorn.worker where service = 'rescuer'");
});

// Before, such a time stopped every rotation with an error of the server, and such a key every worker that was to write it down.
test("a producer's rights are not enough to stop the fleet with a time or a key that nobody can work with", async () => {
  const producer = await client("my_producer");
  for (const [keep, lanes] of [
    [1e300, null],
    [-1, null],
    [null, 1_000_000],
  ]) {
    const declared = producer.query("select posthorn.register_topic('effects', $1::float8, $2::int, 'evil')", [
      keep,
      lanes,
    ]);
    await expect(declared).rejects.toMatchObject({ code: "PH015" });
  }
  const key = randomBytes(1_500).toString("hex");
  const written = producer.query("select posthorn.write_one(null, 1, 1, 1, $1, '{}', null)", [key]);
  await expect(written).rejects.toMatchObject({ code: "23514" });
});

test("an observer reads every view, and answers every question of the command line", async () => {
  const observer = await client("my_observer");
  const { rows } = await observer.query<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'v'",
  );
  expect(rows.length).toBeGreaterThan(5);
  for (const { name } of rows) await observer.query(`select * from ${name}`);
  const post = make("my_observer");
  expect((await post.backlog()).map(({ name }) => name)).toContain("writing");
  const id = (await (await client("my_producer")).query("select posthorn.send('WriteEffect', '{\"n\":7}') as id"))
    .rows[0]?.id;
  expect(await post.statusOf(id)).toMatchObject([{ state: "queued" }]);
  for (const sql of [
    `select posthorn.why('${id}')`,
    "select posthorn.waiting_messages('writing', 10)",
    'select posthorn.letters(\'{"list":"dead-letters"}\', 10)',
    "select posthorn.letters_count('{}')",
    "select posthorn.crossed_alerts()",
    "select posthorn.recent_alerts(10)",
    "select posthorn.fleet()",
    "select posthorn.error_groups('{}', 10, 10)",
    "select posthorn.registered()",
    "select posthorn.list_schedules(10)",
  ]) {
    await observer.query(sql);
  }
});

test("a migration renews the rights, and takes those of yesterday", async () => {
  const owner = await client("owner");
  await owner.query(
    "grant execute on function posthorn.redrive(json, text, int) to posthorn_observer; grant insert on posthorn.lane to posthorn_worker",
  );
  await owner.query("update posthorn.installation set functions_digest = 'of other code'");
  const database = await openDatabase(as("owner"));
  await ensureSchema(database, "auto");
  await database.close();
  const { rows } =
    await owner.query(`select has_function_privilege('posthorn_observer', 'posthorn.redrive(json, text, int)', 'execute') as redrives,
    has_table_privilege('posthorn_worker', 'posthorn.lane', 'insert') as inserts, has_function_privilege('posthorn_producer', 'posthorn.send(text, json, text, json, json, int)', 'execute') as sends`);
  expect(rows).toEqual([{ redrives: false, inserts: false, sends: true }]);
});

test("every function that the library calls belongs to a role, or is the owner's alone", async () => {
  // Goal: a new statement of the library is not forgotten here, and shows up as a missing right on somebody's server.
  const ownersAlone = [
    ...["redrive", "discard", "remove_schedule", "grant_roles", "rebase"],
    ...["pause", "resume", "purge", "purgeable", "begin_letters", "replay", "replayable", "erase", "erasable"],
    ...["remaining", "remove_subscription", "proceed", "stop_operation", "unfit_redrive", "unfit_discard"],
    ...["remaining_of_intake", "remove_intake", "rename_intake"],
  ];
  const folder = new URL("../../src/store/", import.meta.url);
  const called = new Set<string>();
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".ts") && name !== "sql.gen.ts")) {
    const text = readFileSync(new URL(file, folder), "utf8");
    for (const pattern of [/posthorn\.([a-z_]+)\(/g, /jsonOf(?:<[^(]*>)?\(\s*executor,\s*["'`]([a-z_]+)/g]) {
      for (const [, name] of text.matchAll(pattern)) if (name !== undefined) called.add(name);
    }
  }
  expect(called.size).toBeGreaterThan(40);
  const owner = await client("owner");
  const { rows } = await owner.query<{ name: string }>(
    "select unnest(functions) as name from posthorn.role_functions()",
  );
  const known = new Set([...rows.map(({ name }) => name), ...ownersAlone]);
  expect([...called].filter((name) => !known.has(name))).toEqual([]);
  const missing = await owner.query(
    "select n from posthorn.role_functions() f, unnest(f.functions) n where not exists (select from pg_proc where pronamespace = 'posthorn'::regnamespace and proname = n)",
  );
  expect(missing.rows).toEqual([]);
});
