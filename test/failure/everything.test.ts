import { Pool } from "pg";
import { type Post, posthorn, type Receipt, type Sql } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { registerWorker, rescue } from "../../src/store/fleet.js";
import type { Session } from "../sql/engine.js";
import { openWatched } from "../sql/explain.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import { type Act, type Deed, rate, Skip, Stepwise, Stop } from "./fixtures/everything-contract.js";

const kills = process.env.POSTHORN_LONG === "1" ? 80 : 14;
const keys = Array.from({ length: 6 }, (_, i) => `key ${i}`);
const acts: readonly Act[] = ["write", "write", "write", "write", "fail", "later", "reject", "slow"];
const readers = ["stops", "skips", "steps"] as const;
type Reader = (typeof readers)[number];
const contracts = { stops: Stop, skips: Skip, steps: Stepwise } as const;

let database: Awaited<ReturnType<typeof createDatabase>>;
/** Several ask at once. */
let pool: Pool;
let admin: Pick<Session, "query" | "rows" | "value">;
let post: Post<Sql>;
const workers: FixtureProcess[] = [];
beforeAll(async () => {
  database = await createDatabase();
  pool = new Pool({ connectionString: database.url, max: 5 });
  pool.on("error", () => undefined);
  const query = async (text: string, params: readonly unknown[] = []) => pool.query(text, [...params]);
  admin = {
    query: async (text, params) => ({ rows: (await query(text, params)).rows }),
    rows: async (text, params) => (await query(text, params)).rows,
    value: async (text, params) => Object.values((await query(text, params)).rows[0] ?? {})[0],
  };
  await admin.rows(`create table effect (id bigserial primary key, reader text not null, key text not null, n int not null, part text not null,
    at timestamptz not null default clock_timestamp())`);
  await admin.rows("create table mended (reader text not null, n int not null, primary key (reader, n))");
  post = posthorn({ service: "till", database: database.url, migrate: "auto", logger: silentLogger });
  await post.migrate();
});
afterAll(async () => {
  for (const worker of workers) worker.kill();
  await Promise.all(workers.map(({ exited }) => exited));
  await post.stop();
  await pool.end();
  await database.drop();
});

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const oneIn = (times: number) => Math.random() * times < 1;
const count = async (sql: string, values: readonly unknown[] = []) => Number(await admin.value(sql, values));

/** A message, and what was answered to whoever said it, cancelled it or discarded it. */
interface Told {
  readonly reader: Reader;
  readonly deed: Deed;
  readonly receipt: Receipt;
  cancelled?: string;
  redriven?: true;
  discarded?: true;
}

class Till {
  readonly told = new Map<string, Told>();
  readonly #cancels: Promise<void>[] = [];
  #numbers = 0;

  /** One message of each key to each queue, in one transaction a key; some are said twice, some cancelled a little later. */
  async round(): Promise<void> {
    await Promise.all(
      keys.map(async (key) => {
        this.#numbers += 1;
        const deed = { key, n: this.#numbers, act: acts[Math.floor(Math.random() * acts.length)] ?? "write" };
        const twice = oneIn(4);
        const receipts = await this.#say(deed, twice);
        for (const [i, reader] of readers.entries()) this.#note(reader, deed, receipts[i]);
        if (!twice) return;
        const again = await this.#say(deed, true);
        expect(again.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
      }),
    );
  }

  #say(deed: Deed, once: boolean): Promise<readonly Receipt[]> {
    return post.transaction(async ({ send }) =>
      readers.map((reader) => {
        const dedupe = { key: `${reader} ${deed.n}`, mode: "drop", windowMs: 3_600_000 } as const;
        return once ? send(contracts[reader], deed, { dedupe }) : send(contracts[reader], deed);
      }),
    );
  }

  #note(reader: Reader, deed: Deed, receipt: Receipt | undefined): void {
    if (receipt === undefined) throw new Error("a receipt is missing");
    const told: Told = { reader, deed, receipt };
    this.told.set(`${reader} ${deed.n}`, told);
    if (oneIn(10)) this.#cancels.push(this.#cancel(told));
  }

  async #cancel(told: Told): Promise<void> {
    await after(Math.random() * 600);
    told.cancelled = await told.receipt.cancel();
  }

  async cancelled(): Promise<void> {
    await Promise.all(this.#cancels);
  }

  /** Somebody mends what is dead and has it run again; some of it is given up. */
  async operate(): Promise<void> {
    const dead =
      await admin.rows(`select posthorn.public_id(d.message, d.nonce) as id, s.name as reader, (d.payload ->> 'n')::int as n
      from posthorn.dead_letter d join posthorn.subscription s on s.id = d.subscription order by d.id`);
    for (const { id, reader, n } of dead) {
      const told = this.told.get(`${reader} ${n}`);
      const filter = JSON.stringify({ list: "dead-letters", message: id });
      if (told === undefined) throw new Error(`${reader} ${n} is dead and was not told`);
      if (oneIn(5)) {
        if ((await admin.value("select posthorn.discard($1, 'test', 'given up', 1)::text", [filter])) !== "[]")
          told.discarded = true;
        continue;
      }
      await admin.rows("insert into mended (reader, n) values ($1, $2) on conflict do nothing", [reader, n]);
      if ((await admin.value("select posthorn.redrive($1, 'test', 1)::text", [filter])) !== "[]") told.redriven = true;
    }
  }
}

async function spawn(): Promise<FixtureProcess> {
  const worker = await spawnFixture("test/failure/fixtures/everything.ts", { args: [database.url] });
  workers.push(worker);
  return worker;
}

/** One place in the fleet. Some are stopped first, until they count as dead, and come back before they are killed. */
async function place(left: { kills: number }): Promise<void> {
  while (left.kills > 0) {
    left.kills -= 1;
    const worker = await spawn();
    if (oneIn(5)) await after(Math.random() * 400);
    else await worker.line("works", { withinMs: 60_000 });
    await after(50 + Math.random() * 500);
    if (oneIn(6)) {
      worker.kill("SIGSTOP");
      // It may be the last that is left: nobody else would rescue what it holds.
      const gone = async () => {
        await rescue(admin, 100);
        return (await count("select count(*) from posthorn.worker where pid = $1", [worker.pid])) === 0;
      };
      await eventually(gone, { withinMs: 60_000, everyMs: 50 });
      worker.kill("SIGCONT");
      await after(Math.random() * 300);
    }
    worker.kill();
    await worker.exited;
  }
}

interface Effect {
  readonly key: string;
  readonly n: number;
  readonly part: string;
}

async function effectsOf(reader: Reader): Promise<readonly Effect[]> {
  const rows = await admin.rows("select key, n, part from effect where reader = $1 order by id", [reader]);
  return rows.map(({ key, n, part }) => ({ key: String(key), n: Number(n), part: String(part) }));
}

/** Every message has one end, which fits what was answered about it and what it has left. */
async function judgeEnds(till: Till): Promise<void> {
  const wrong: unknown[] = [];
  const tally = { succeeded: 0, cancelled: 0, discarded: 0, redriven: 0 };
  for (const reader of readers) {
    const effects = await effectsOf(reader);
    const told = [...till.told.values()].filter((one) => one.reader === reader);
    const ids = told.map(({ receipt }) => receipt.id);
    const sql =
      "select posthorn.message_status(i.id) #>> '{0,state}' as state from unnest($1::text[]) with ordinality i(id, n) order by n";
    const states = (await admin.rows(sql, [ids])).map(({ state }) => state);
    const left = new Map<number, string[]>();
    for (const { n, part } of effects) left.set(n, [...(left.get(n) ?? []), part]);
    for (const [i, { deed, cancelled, discarded, redriven }] of told.entries()) {
      const state = states[i];
      const parts = left.get(deed.n) ?? [];
      const whole = reader === "steps" ? parts.includes("first") && parts.includes("second") : parts.length === 1;
      const none = reader === "steps" || parts.length === 0;
      const fits =
        state === "succeeded"
          ? whole && cancelled !== "cancelled" && discarded === undefined
          : state === "cancelled"
            ? none && (cancelled === "cancelled" || cancelled === "signalled")
            : state === "discarded" && none && discarded === true && cancelled !== "cancelled";
      if (!fits) wrong.push({ reader, ...deed, state, parts, cancelled, discarded });
      else if (state === "succeeded" || state === "cancelled" || state === "discarded") tally[state] += 1;
      if (redriven) tally.redriven += 1;
    }
  }
  expect(wrong).toEqual([]);
  expect(Math.min(...Object.values(tally)), JSON.stringify(tally)).toBeGreaterThan(0);
}

/** The first effects of each key are in the order in which its messages were said; where the dead are skipped, but for what was redriven. */
async function judgeOrder(till: Till): Promise<void> {
  for (const reader of readers) {
    const effects = await effectsOf(reader);
    const counted = ({ n, part }: Effect) =>
      part !== "first" && !(reader === "skips" && till.told.get(`${reader} ${n}`)?.redriven === true);
    for (const key of keys) {
      const numbers = [...new Set(effects.filter((one) => one.key === key && counted(one)).map(({ n }) => n))];
      expect(numbers, `${reader}, ${key}`).toEqual([...numbers].sort((a, b) => a - b));
    }
  }
}

/** What a claim that finds nothing touches, after all that was. */
async function claimPages(reader: Reader): Promise<number> {
  const subscription = await count("select id from posthorn.subscription where name = $1", [reader]);
  const entry = {
    service: "test",
    host: "here",
    pid: 1,
    timeoutMs: 3_600_000,
    sessionKey: null,
    backends: [],
    attends: [],
  };
  const worker = await registerWorker(admin, entry);
  const watched = await openWatched(database.url);
  const pages: number[] = [];
  for (let i = 0; i < 5; i += 1)
    pages.push(await watched.pages(`select posthorn.work(${subscription}, 0, ${worker}, 10, null)`));
  await watched.close();
  await admin.rows("delete from posthorn.worker where id = $1", [worker]);
  return Math.min(...pages);
}

const nothingLeft = `select (select count(*) from posthorn.deferred) + (select count(*) from posthorn.parked_key) + (select count(*) from posthorn.step)
  + (select count(*) from posthorn.cancel_request) + (select count(*) from posthorn.dead_letter) + (select count(*) from posthorn.open_claims())`;

test(`everything that comes together with order holds while workers are killed ${kills} times: each message ends once, as was answered, and in its order`, async () => {
  // Goal: retries, messages put off, dead ones that stop their key or are skipped over, redrives, discards, cancels, dedupe, a rate, a limit of the
  // fleet and steps at once do not lose, repeat or reorder anything, wherever workers die, and whenever stopped ones come back.
  // Method: one producer, who knows the order; an operator; a fleet in which workers are killed, some after they were stopped until others
  // had what they held. In the end all has ended, and the effects are compared with what everybody was answered.
  const till = new Till();
  const [{ now: began } = {}] = await admin.rows("select clock_timestamp() as now");
  const left = { kills };
  const whileKills = async (what: () => Promise<void>, everyMs: number) => {
    while (left.kills > 0) {
      await what();
      await after(everyMs);
    }
  };
  await Promise.all([
    whileKills(() => till.round(), 250),
    whileKills(() => till.operate(), 150),
    place(left),
    place(left),
    place(left),
  ]);
  const survivors = [await spawn(), await spawn()];
  await till.cancelled();
  await eventually(
    async () => {
      await till.operate();
      await admin.rows("select posthorn.sweep_steps(1000, 0)");
      return (
        (await count(nothingLeft)) === 0 && (await count("select sum(backlog + running) from posthorn.backlog")) === 0
      );
    },
    { withinMs: 200_000, everyMs: 200 },
  );
  await judgeEnds(till);
  await judgeOrder(till);
  const seconds = await count(
    "select extract(epoch from max(at) - $1::timestamptz) from effect where reader = 'stops'",
    [began],
  );
  const most = rate.burst + (seconds * 1_000 * rate.messages) / rate.perMs;
  expect(await count("select count(*) from effect where reader = 'stops'")).toBeLessThanOrEqual(most);
  for (const worker of survivors) {
    worker.say("stop");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
  }
  expect(await count("select count(*) from posthorn.worker")).toBe(0);
  for (const reader of readers) expect(await claimPages(reader), reader).toBeLessThan(100);
}, 1_200_000);
