/**
 * What rotation costs whoever works: rotation-stall and held-dead-rows under 20,000 messages a second; and, with --long, held-snapshot and
 * start-with-history.
 */
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import { type Post, posthorn, type Sql } from "posthorn";
import { fill } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { now } from "../clock.js";
import { type Figure, figure, type Round, worst } from "../measure.js";
import { payloads, Work } from "../payload.js";
import { handlerPolicy, tunedConcurrency } from "../policy.js";
import { startProgram } from "../program.js";
import type { LockWatcherCalls } from "../programs/lock-watcher.js";
import { serverCpu } from "../server-cpu.js";
import { openTraffic } from "./traffic.js";

const names = { stall: "rotation-stall", dead: "held-dead-rows" } as const;
const snapshotNames = { p99: "held-snapshot-p99", cpu: "held-snapshot-cpu" } as const;
const historyName = "start-with-history";
const perSecond = 20_000;
const perCall = 500;
/** The smallest log that an option allows, so that it rotates every few seconds. */
const smallest = { keepMs: 60_000, maxBytes: 67_108_864 };
const log = "'^(message|claim|settlement|ending|tick)_[1-8]'";

/** Lists of messages at an even rate, as far as the machine keeps up; how many were said. */
async function sayAt(post: Post<Sql>, rate: number, ms: number): Promise<number> {
  const begun = now();
  let said = 0;
  const list = Array.from({ length: perCall }, (_, i) => payloads[i % payloads.length] ?? payloads[0]);
  while (now() - begun < ms) {
    const due = ((now() - begun) / 1_000) * rate;
    if (said > due) await wait(((said - due) / rate) * 1_000);
    await post.sendMany(
      Work,
      list.flatMap((one) => one ?? []),
    );
    said += perCall;
  }
  return said;
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url);
  await client.connect();
  return client;
}

const deadRows = `select coalesce(sum(n_dead_tup), 0)::int as dead from pg_stat_user_tables where schemaname = 'posthorn' and relname ~ ${log}`;

export const rotation: Row = {
  names: Object.values(names),
  run: async (bench) => {
    const { url } = await bench.database();
    const post = posthorn({ service: "bench", database: url, migrate: "auto", retention: smallest });
    post.queue("work", { ...handlerPolicy(), concurrency: tunedConcurrency }).handle(Work, () => undefined);
    await post.start();
    const client = await connected(url);
    const watcher = await startProgram<LockWatcherCalls>("lock-watcher", { url });
    await sayAt(post, perSecond, bench.warmupMs);
    await watcher.call("take", undefined);
    const rounds: Round[] = [];
    const dead: Round[] = [];
    let [said, looks] = [0, 0];
    while (rounds.length < bench.rounds) {
      bench.progress(`round ${rounds.length + 1} of ${bench.rounds}`);
      const begun = now();
      // Long enough for several rotations.
      said += await sayAt(post, perSecond, bench.roundMs * 4);
      const seconds = (now() - begun) / 1_000;
      const waited = await watcher.call("take", undefined);
      looks += waited.looks;
      rounds.push({ value: waited.longestMs, seconds });
      dead.push({ value: (await client.query<{ dead: number }>(deadRows)).rows[0]?.dead ?? Number.NaN, seconds });
    }
    await watcher.stop();
    await post.untilIdle();
    await post.stop();
    const { rows } = await client.query<{ first: string }>("select first_segment::text as first from posthorn.ring");
    await client.end();
    const truncated = Number(rows[0]?.first) - 1;
    // In a round of a second the log does not become large enough.
    if (truncated === 0 && bench.rounds >= 5) throw new Error("no segment was truncated, so nothing was measured");
    const seconds = rounds.reduce((sum, round) => sum + round.seconds, 0);
    bench.note(
      `${names.stall}: tuned with concurrency ${tunedConcurrency} and retention ${JSON.stringify(smallest)}; ${Math.round(said / seconds)} messages/s, ${truncated} segments truncated, ${looks} looks`,
    );
    const figures = [
      figure({ name: names.stall, unit: "ms", rounds, bar: { atMost: 50 }, of: worst }),
      figure({ name: names.dead, unit: "rows", rounds: dead, bar: { atMost: 0 } }),
    ];
    return figures.filter(({ name }) => bench.wants(name));
  },
};

/** A transaction with an id, open all the time, at 2,000 messages a second: the last minute beside the first. */
export const heldSnapshot: Row = {
  names: Object.values(snapshotNames),
  long: true,
  run: async (bench) => {
    const { url } = await bench.database();
    const quick = bench.rounds < 5;
    const [minutes, partMs] = quick ? [2, 2_000] : [10, 60_000];
    const traffic = await openTraffic("message", url);
    await traffic.at(2_000, bench.warmupMs);
    const holder = await connected(url);
    await holder.query("begin isolation level repeatable read");
    await holder.query("select pg_current_xact_id()");
    const cpu = await serverCpu(url);
    const p99: Round[] = [];
    const used: Round[] = [];
    for (let minute = 0; minute < minutes; minute += 1) {
      bench.progress(`minute ${minute + 1} of ${minutes}`);
      const before = "seconds" in cpu ? cpu.seconds() : Number.NaN;
      const passed = await traffic.at(2_000, partMs);
      p99.push({ value: passed.p99, seconds: passed.seconds });
      used.push({ value: "seconds" in cpu ? cpu.seconds() - before : Number.NaN, seconds: passed.seconds });
    }
    await holder.query("rollback");
    await holder.end();
    await traffic.stop();
    if ("reason" in cpu) bench.skip(snapshotNames.cpu, cpu.reason);
    const beside = (name: string, unit: string, all: readonly Round[]): Figure =>
      figure({ name, unit, rounds: all.slice(-1), limits: all.slice(0, 1), bar: { most: 1.3 } });
    const figures = [
      beside(snapshotNames.p99, "ms", p99),
      ...("seconds" in cpu ? [beside(snapshotNames.cpu, "s", used)] : []),
    ];
    return figures.filter(({ name }) => bench.wants(name));
  },
};

/** From the call of start to its return, beside so many messages that were said and handled. */
export const startWithHistory: Row = {
  names: [historyName],
  long: true,
  run: async (bench) => {
    const { url } = await bench.database();
    await makeHistory(bench, url);
    const rounds: Round[] = [];
    for (let round = 0; round < bench.rounds; round += 1) {
      const post = posthorn({ service: "bench", database: url });
      post.queue("work", handlerPolicy()).handle(Work, () => undefined);
      const begun = now();
      await post.start();
      const ms = now() - begun;
      rounds.push({ value: ms, seconds: ms / 1_000 });
      await post.untilIdle();
      await post.stop();
    }
    return [figure({ name: historyName, unit: "ms", rounds, bar: { atMost: 1_000 } })];
  },
};

async function makeHistory(bench: Bench, url: string): Promise<void> {
  const messages = bench.messages(10_000_000);
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  post.queue("work", { ...handlerPolicy(), concurrency: tunedConcurrency }).handle(Work, () => undefined);
  await post.start();
  await fill(post, messages, (sent) => {
    if (sent % 100_000 === 0)
      bench.progress(`${sent.toLocaleString("en")} of ${messages.toLocaleString("en")} messages said`);
  });
  await post.untilIdle();
  await post.stop();
}
