import { Client, Pool } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, DatabaseRefusedError, type Post, policies, posthorn, type Sql, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { type Bouncer, type BouncerOptions, startBouncer } from "../support/pgbouncer.js";
import { adminUrl, createDatabase, type TestDatabase } from "../support/server.js";

let place: TestDatabase;
let bouncer: Bouncer;
const posts: Post<Sql>[] = [];
const bouncers: Bouncer[] = [];

beforeAll(async () => {
  place = await createDatabase({ empty: true });
  bouncer = await begin({ size: 4 });
  const post = make({ pooler: "transaction", migrate: "auto" });
  await post.migrate();
});
afterAll(async () => {
  await Promise.all(posts.map((post) => post.stop()));
  await Promise.all(bouncers.map((one) => one.remove()));
  await place.drop();
});

async function begin(options: BouncerOptions): Promise<Bouncer> {
  const one = await startBouncer({ url: await adminUrl() }, options);
  bouncers.push(one);
  return one;
}

let made = 0;
function make(options: { pooler?: "none" | "transaction"; migrate?: "auto"; database?: string } = {}): Post<Sql> {
  made += 1;
  const database = bouncer.through(place.url);
  const post = posthorn({ service: `behind-${made}`, database, logger: silentLogger, ...options });
  posts.push(post);
  return post;
}

async function look<Row extends object>(sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: place.url });
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

describe("a pooler in transaction mode", () => {
  test("sends, transactions, workers, order, results and cancel work by polling alone", async () => {
    const post = make({ pooler: "transaction" });
    const seen: string[] = [];
    const Add = command("Add", { queue: "adding", schema: type<{ a: number }>(), result: type<{ sum: number }>() });
    const Follow = command("Follow", {
      queue: "following",
      schema: type<{ key: string; n: number }>(),
      key: ({ key }) => key,
    });
    const Wait = command("Wait", { queue: "waiting", schema: type<object>() });
    post.queue("adding", { ...policies.rollUp, results: { keepMs: 60_000 } }).handle(Add, async ({ a }, { tx }) => {
      const { rows } = await tx.query<{ sum: number }>("select $1::int + 1 as sum", [a]);
      return { sum: rows[0]?.sum ?? 0 };
    });
    post
      .queue("following", { ...policies.rollUp, ordering: { per: "key", whenDead: "park" } })
      .handle(Follow, async ({ key, n }, { attempt }) => {
        if (n === 1 && attempt === 1) throw new Error("again");
        seen.push(`${key}${n}`);
      });
    const begun: string[] = [];
    post.queue("waiting", { ...policies.notify }).handle(Wait, async (_, { signal }) => {
      begun.push("begun");
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      throw new Error("aborted");
    });
    await post.start();
    const receipt = await post.send(Add, { a: 1 });
    expect(await receipt.result({ withinMs: 60_000 })).toEqual({ sum: 2 });

    // Said beside the worker, by a process that could not wake it.
    const other = make({ pooler: "transaction" });
    await other.transaction(async ({ tx, send }) => {
      await tx.query("select 1");
      for (let n = 1; n <= 3; n += 1) for (const key of ["a", "b"]) send(Follow, { key, n });
    });
    await eventually(async () => seen.length === 6);
    for (const key of ["a", "b"]) {
      expect(seen.filter((one) => one.startsWith(key))).toEqual([1, 2, 3].map((n) => `${key}${n}`));
    }

    const waits = await other.send(Wait, {});
    await eventually(async () => begun.length === 1);
    await waits.cancel();
    expect(await waits.settled({ withinMs: 60_000 })).toMatchObject({ state: "cancelled" });

    const scheduled = await other.send(Add, { a: 5 }, { delayMs: 300 });
    expect(await scheduled.result({ withinMs: 60_000 })).toEqual({ sum: 6 });
    await other.stop();
    await post.stop();
  });

  test("nothing that the library sets stays in a session that others get, and no name of a prepared statement", async () => {
    // Goal: the application's own statements over the same pooler find their own settings.
    // Method: a pooler with a single session, so that everybody gets the one in which everything was done.
    const single = await begin({ size: 1 });
    const database = single.through(place.url);
    const application = new Client({ connectionString: database });
    await application.connect();
    const settings = `select name, setting, source from pg_settings
      where name not in ('transaction_isolation', 'transaction_read_only', 'application_name') and name not like '%.%' order by name`;
    const before = (await application.query(settings)).rows;
    const post = make({ pooler: "transaction", database });
    const Note = command("Note", { queue: "noting", schema: type<object>() });
    post.queue("noting", { ...policies.rollUp }).handle(Note, async () => undefined);
    await post.start();
    const receipt = await post.send(Note, {});
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    await eventually(async () => (await receipt.status()).state === "succeeded");
    await post.stop();
    expect((await application.query(settings)).rows).toEqual(before);
    expect((await application.query("select * from pg_prepared_statements where name <> ''")).rows).toEqual([]);
    expect((await application.query("select * from pg_listening_channels()")).rows).toEqual([]);
    const locks = "select * from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    expect((await application.query(locks)).rows).toEqual([]);
    await application.end();
  });

  test("a failed statement of the library's own leaves no transaction behind in the pooler", async () => {
    const post = make({ pooler: "transaction" });
    // A duplicate owner: the registration is refused by the server.
    const first = command("OwnThing", { queue: "owned-a", schema: type<object>() });
    const second = command("OwnThing", { queue: "owned-b", schema: type<object>() });
    await post.send(first, {});
    const other = make({ pooler: "transaction" });
    await expect(other.send(second, {})).rejects.toMatchObject({ code: "PH_CONTRACT_CONFLICT" });
    await post.send(first, {});
    const idle = await look(
      "select pid from pg_stat_activity where state like 'idle in transaction%' and datname = current_database()",
    );
    expect(idle).toEqual([]);
  });

  test("a worker behind it has no session of its own, and is dead by its heartbeats alone", async () => {
    const post = make({ pooler: "transaction" });
    const Beat = command("Beat", { queue: "beating", schema: type<object>() });
    post.queue("beating", { ...policies.notify }).handle(Beat, async () => undefined);
    await post.start();
    const [worker] = await look(
      "select session_key, backends, why from posthorn.worker w left join posthorn.dead_workers() d on d.worker = w.id",
    );
    expect(worker).toEqual({ session_key: null, backends: [], why: null });
    await post.stop();
    expect(await look("select id from posthorn.worker")).toEqual([]);
  });

  test("the plans of the hot statements are those of a session of one's own", async () => {
    // Goal: what keeps plans the same is set in the claim's own transaction. Method: each statement of a session shows the settings that
    // own_transaction left, from inside of it.
    const post = make({ pooler: "transaction" });
    const Plan = command("Plan", { queue: "planning", schema: type<object>() });
    const shown: unknown[] = [];
    post.queue("planning", { ...policies.rollUp }).handle(Plan, async (_, { tx }) => {
      shown.push((await tx.query("select 1")).rows);
    });
    await look(`create or replace function show_settings() returns trigger language plpgsql as $$ begin
      insert into public.shown values (current_setting('enable_seqscan'), current_setting('plan_cache_mode'), current_setting('jit')); return new; end $$`);
    await look("create table shown (seqscan text, cache text, jit text)");
    await look(
      "create trigger show_settings before insert on posthorn.claim_1 for each row execute function show_settings()",
    );
    await post.start();
    await (await post.send(Plan, {})).settled({ withinMs: 60_000 });
    await post.stop();
    await look("drop trigger show_settings on posthorn.claim_1");
    expect(await look("select distinct * from shown")).toEqual([
      { seqscan: "off", cache: "force_generic_plan", jit: "off" },
    ]);
    expect(shown).toHaveLength(1);
  });
});

describe("a pooler where sessions were counted on", () => {
  for (const roundRobin of [false, true]) {
    test(`is refused by name, as producer and as worker${roundRobin ? ", also when it hands out sessions in turn" : ""}`, async () => {
      const turning = await begin({ size: 4, roundRobin });
      const database = turning.through(place.url);
      for (const pooler of [undefined, "none"] as const) {
        const post = make({ database, ...(pooler === undefined ? {} : { pooler }) });
        const error = await post.start().catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(DatabaseRefusedError);
        expect(error).toMatchObject({ code: "PH_DATABASE_POOLED", retryable: false });
        expect(String(error)).toContain('pooler: "transaction"');
      }
      // Nothing was set in the sessions that it was looked for in.
      const client = new Client({ connectionString: database });
      await client.connect();
      expect((await client.query("show search_path")).rows).toEqual([{ search_path: '"$user", public' }]);
      await client.end();
    });
  }

  test("is refused as well when the pool is the user's own", async () => {
    const pool = new Pool({ connectionString: bouncer.through(place.url), max: 4 });
    pool.on("error", () => undefined);
    const post = posthorn({ service: "pool-of-mine", database: pool, logger: silentLogger });
    await expect(post.start()).rejects.toMatchObject({ code: "PH_DATABASE_POOLED" });
    await post.stop();
    await pool.end();
  });

  test("is accepted in session mode", async () => {
    const sessions = await begin({ mode: "session", size: 20 });
    const post = make({ database: sessions.through(place.url) });
    const Hear = command("Hear", { queue: "hearing", schema: type<object>() });
    post.queue("hearing", { ...policies.notify }).handle(Hear, async () => undefined);
    await post.start();
    const [worker] = await look<{ session: boolean }>("select session_key is not null as session from posthorn.worker");
    expect(worker).toEqual({ session: true });
    expect(await (await post.send(Hear, {})).settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    await post.stop();
  });
});
