/**
 * What needs a million messages that wait: what a claim costs beside them and beside a thousand, and the memory of the worker that
 * works them off, tuned and, which takes longer, with every option at its default.
 *
 * Buffers and time of a claim are what EXPLAIN says of the call of `posthorn.work`, the functions inside it included: the server's own
 * measure, without the way to it. As many messages as a claim takes are sent after it, so that both backlogs keep their size.
 */
import { existsSync } from "node:fs";
import pg from "pg";
import { type Post, posthorn, type Sql } from "posthorn";
import { fill } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { type Figure, figure, median, type Round } from "../measure.js";
import { payloads, Work } from "../payload.js";
import { handlerPolicy, tunedConcurrency } from "../policy.js";
import { startProgram } from "../program.js";
import type { DrainerCalls } from "../programs/drainer.js";

const names = { buffers: "claim-backlog-buffers", time: "claim-backlog-time", memory: "worker-memory" } as const;
const longName = "worker-memory-defaults";
const waiting = 1_000_000;
const claims = 200;
const warmups = 20;
const messagesOfClaim = 10;

interface Cost {
  readonly buffers: number;
  readonly ms: number;
}

/** A queue with so many messages, and a worker that only claims. */
class Backlog {
  readonly #post: Post<Sql>;
  readonly #client: pg.Client;
  readonly #ids: { readonly subscription: number; readonly worker: string };
  readonly costs: Cost[] = [];

  constructor(post: Post<Sql>, client: pg.Client, ids: { readonly subscription: number; readonly worker: string }) {
    this.#post = post;
    this.#client = client;
    this.#ids = ids;
  }

  static async open(bench: Bench, url: string, messages: number): Promise<Backlog> {
    const post = posthorn({ service: "bench", database: url, migrate: "auto" });
    // A worker comes and goes, so that the queue has its policy.
    post.queue("work", handlerPolicy()).handle(Work, () => undefined);
    await post.start();
    await post.stop();
    const producer = posthorn({ service: "bench", database: url });
    await fillTelling(bench, producer, messages);
    const client = new pg.Client(url);
    await client.connect();
    const { rows } = await client.query<{ subscription: number; worker: string }>(
      `select s.id as subscription, posthorn.register_worker('bench', 'here', 1, 3600000, null, '[]',
         json_build_array(json_build_object('subscription', s.id, 'contracts', (select json_agg(id) from posthorn.contract))))::text as worker
       from posthorn.subscription s where s.name = 'work'`,
    );
    const [ids] = rows;
    if (ids === undefined) throw new Error("the queue is not there");
    return new Backlog(producer, client, ids);
  }

  async claimOnce(counts: boolean): Promise<void> {
    const { subscription, worker } = this.#ids;
    const { rows } = await this.#client.query<{ "QUERY PLAN": readonly Explained[] }>(
      `explain (analyze, buffers, timing off, format json)
       select posthorn.work(${subscription}, 0, ${worker}, ${messagesOfClaim}, null)`,
    );
    const explained = rows[0]?.["QUERY PLAN"][0];
    if (explained === undefined) throw new Error("EXPLAIN said nothing");
    const { Plan: plan, "Execution Time": ms } = explained;
    if (counts) this.costs.push({ buffers: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], ms });
    await this.#post.sendMany(Work, payloads.slice(0, messagesOfClaim));
  }

  /** Settles everything that was claimed, and lets the worker go: what waits is whole again. */
  async close(): Promise<void> {
    const { worker } = this.#ids;
    const { rows } = await this.#client.query<{ parts: string; messages: number }>(
      `select json_agg(json_build_object('claim', id::text, 'token', token::text, 'slot', 1, 'part', 1, 'outcome', 'succeeded',
         'closes', true))::text as parts, sum(cardinality(messages))::int as messages from posthorn.claim_1 where worker = $1`,
      [worker],
    );
    const taken = rows[0]?.messages ?? 0;
    if (taken !== (claims + warmups) * messagesOfClaim) throw new Error(`the claims took ${taken} messages`);
    await this.#client.query("select posthorn.settle($1::json, null, null)", [rows[0]?.parts]);
    await this.#client.query("select posthorn.forget_worker($1)", [worker]);
    await this.#client.end();
    await this.#post.stop();
  }
}

interface Explained {
  readonly Plan: { readonly "Shared Hit Blocks": number; readonly "Shared Read Blocks": number };
  readonly "Execution Time": number;
}

async function claimFigures(bench: Bench, url: string, many: number): Promise<readonly Figure[]> {
  const few = bench.messages(1_000);
  const large = await Backlog.open(bench, url, many);
  const small = await Backlog.open(bench, (await bench.database()).url, few);
  bench.progress(`${claims} claims beside each`);
  for (let i = 0; i < claims + warmups; i += 1) {
    // One beside the other, so that a slow moment of the machine hits both.
    await small.claimOnce(i >= warmups);
    await large.claimOnce(i >= warmups);
  }
  await large.close();
  await small.close();
  const costs = (backlog: Backlog, part: keyof Cost): readonly Round[] =>
    backlog.costs.map((cost) => ({ value: cost[part], seconds: cost.ms / 1_000 }));
  // Pairs of claims say little: the medians are compared.
  const compared = (name: string, unit: string, part: keyof Cost, most: number): Figure => {
    const [rounds, limits] = [costs(large, part), costs(small, part)];
    const ratio = median(rounds.map(({ value }) => value)) / median(limits.map(({ value }) => value));
    return figure({ name, unit, rounds, limits, ratio, bar: { most } });
  };
  return [compared(names.buffers, "buffers", "buffers", 1.2), compared(names.time, "ms", "ms", 1.5)];
}

async function memoryFigure(bench: Bench, name: string, url: string, concurrency?: number): Promise<readonly Figure[]> {
  if (!existsSync("/proc/self/status")) {
    bench.skip(name, `/proc is needed, and this is ${process.platform}`);
    return [];
  }
  const drainer = await startProgram<DrainerCalls>("drainer", { url, concurrency });
  if (concurrency !== undefined) bench.note(`${name}: tuned with concurrency ${concurrency}`);
  const telling = setInterval(async () => {
    const handled = await drainer.call("handled", undefined).catch(() => undefined);
    if (handled !== undefined) bench.progress(`${handled.toLocaleString("en")} messages handled`);
  }, 2_000);
  const { seconds, peakBytes } = await drainer
    .call("drain", bench.messages(waiting))
    .finally(() => clearInterval(telling));
  await drainer.stop();
  const rounds = [{ value: peakBytes / 1e6, seconds }];
  return [figure({ name, unit: "MB", rounds, bar: { atMost: 200 } })];
}

export const million: Row = {
  names: Object.values(names),
  run: async (bench) => {
    const { url } = await bench.database();
    const messages = bench.messages(waiting);
    const figures: Figure[] = [];
    const claimsWanted = bench.wants(names.buffers) || bench.wants(names.time);
    if (claimsWanted) figures.push(...(await claimFigures(bench, url, messages)));
    if (bench.wants(names.memory)) {
      if (!claimsWanted) await sendOnly(bench, url, messages);
      figures.push(...(await memoryFigure(bench, names.memory, url, tunedConcurrency)));
    }
    return figures.filter(({ name }) => bench.wants(name));
  },
};

export const memoryAtDefaults: Row = {
  names: [longName],
  long: true,
  run: async (bench) => {
    const { url } = await bench.database();
    await sendOnly(bench, url, bench.messages(waiting));
    return memoryFigure(bench, longName, url);
  },
};

async function sendOnly(bench: Bench, url: string, messages: number): Promise<void> {
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  await fillTelling(bench, post, messages);
  await post.stop();
}

async function fillTelling(bench: Bench, post: Post<Sql>, messages: number): Promise<void> {
  await fill(post, messages, (sent) => {
    if (sent % 100_000 === 0)
      bench.progress(`${sent.toLocaleString("en")} of ${messages.toLocaleString("en")} messages sent`);
  });
}
