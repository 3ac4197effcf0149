/**
 * What order per key costs: a drain of 1,000 keys beside an unordered one, the same with one key that is slow, and claims beside 100,000
 * messages that are parked.
 */
import pg from "pg";
import { type Policy, type Post, posthorn, retry, type Sql } from "posthorn";
import type { Bench, Row } from "../bench.js";
import { alternate, type Figure, figure, median, type Probe, type Round } from "../measure.js";
import { OrderedWork, payload } from "../payload.js";
import { handlerPolicy, tunedConcurrency } from "../policy.js";
import { drainHandlerProbe } from "./drain.js";

const names = { drain: "ordered-drain", slow: "slow-key", parked: "claim-parked" } as const;
const keys = 1_000;
const drained = 100_000;
const besideSlow = 300_000;
const slowMs = 2_000;
const parked = 100_000;
const parkedKeys = 100;
const claims = 200;
const warmups = 20;
const messagesOfClaim = 10;

const ordered: Policy<"handler"> = { ...handlerPolicy(tunedConcurrency), ordering: { per: "key", whenDead: "park" } };

/** One message of each key after the other. */
async function fill(post: Post<Sql>, count: number, keyOf: (i: number) => string): Promise<void> {
  for (let from = 0; from < count; from += 1_000) {
    const size = Math.min(1_000, count - from);
    const some = Array.from({ length: size }, (_, i) => ({ ...payload(from + i), to: keyOf(from + i) }));
    await post.sendMany(OrderedWork, some);
  }
}

const keyOf = (i: number) => `key ${i % keys}`;

/** Counts those that are not slow, until all of them have been handled. */
async function drainOnce(bench: Bench, count: number, slow: string | undefined): Promise<Round> {
  const place = await bench.database();
  const post = posthorn({ service: "bench", database: place.url, migrate: "auto" });
  const wanted = slow === undefined ? count : count - Math.ceil(count / keys);
  let handled = 0;
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const last = new Map<string, number>();
  post.queue("in-order", ordered).handle(OrderedWork, async ({ to, cents }, { signal }) => {
    signal.throwIfAborted();
    if ((last.get(to) ?? -1) >= cents) throw new Error(`${to} is out of order`);
    last.set(to, cents);
    if (to === slow) {
      await new Promise((resolve) => setTimeout(resolve, slowMs));
      return;
    }
    handled += 1;
    if (handled === wanted) finish();
  });
  await fill(post, count, keyOf);
  const begun = performance.now();
  await post.start();
  await finished;
  const seconds = (performance.now() - begun) / 1_000;
  await post.stop({ graceMs: 0 });
  await place.drop();
  return { value: wanted / seconds, seconds };
}

function drains(bench: Bench, messages: number, slow?: string): Probe {
  const count = bench.messages(messages);
  return {
    round: async (ms) => {
      let sum: Round = { value: 0, seconds: 0 };
      do {
        const one = await drainOnce(bench, ms < bench.roundMs ? Math.ceil(count / 5) : count, slow);
        sum = { value: sum.value + one.value * one.seconds, seconds: sum.seconds + one.seconds };
      } while (sum.seconds * 1_000 < ms);
      return { value: sum.value / sum.seconds, seconds: sum.seconds };
    },
  };
}

/** An ordered queue on which so many messages are parked behind dead ones, and a session that claims others. */
class Claims {
  readonly #post: Post<Sql>;
  readonly #client: pg.Client;
  readonly #ids: readonly [subscription: number, worker: string];
  readonly rounds: Round[] = [];
  #sent = 0;

  constructor(post: Post<Sql>, client: pg.Client, ids: readonly [number, string]) {
    this.#post = post;
    this.#client = client;
    this.#ids = ids;
  }

  static async open(bench: Bench, behind: number): Promise<Claims> {
    const { url } = await bench.database();
    const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
    const post = posthorn({ service: "bench", database: url, migrate: "auto", logger: silent });
    post.queue("in-order", { ...ordered, retry: retry.none }).handle(OrderedWork, () => {
      throw new Error("never");
    });
    await post.start();
    if (behind > 0) {
      await fill(post, parkedKeys, (i) => `parked ${i % parkedKeys}`);
      await post.untilIdle();
      await fill(post, behind, (i) => `parked ${i % parkedKeys}`);
      await post.untilIdle();
    }
    await post.stop();
    const client = new pg.Client(url);
    await client.connect();
    const { rows } = await client.query<{ subscription: number; worker: string; parked: number }>(
      `select s.id as subscription, (select count(*)::int from posthorn.deferred) as parked,
         posthorn.register_worker('bench', 'here', 1, 3600000, null, '[]',
           json_build_array(json_build_object('subscription', s.id, 'contracts', (select json_agg(id) from posthorn.contract))))::text as worker
       from posthorn.subscription s where s.name = 'in-order'`,
    );
    const [row] = rows;
    if (row?.parked !== behind) throw new Error(`${row?.parked} messages are parked`);
    return new Claims(posthorn({ service: "bench", database: url }), client, [row.subscription, row.worker]);
  }

  async claimOnce(counts: boolean): Promise<void> {
    const [subscription, worker] = this.#ids;
    await fill(this.#post, messagesOfClaim, (i) => `free ${this.#sent + i}`);
    this.#sent += messagesOfClaim;
    const { rows } = await this.#client.query(
      `explain (analyze, buffers, timing off, format json) select posthorn.work(${subscription}, 0, ${worker}, ${messagesOfClaim}, null)`,
    );
    const plan = rows[0]["QUERY PLAN"][0];
    const buffers = plan.Plan["Shared Hit Blocks"] + plan.Plan["Shared Read Blocks"];
    if (counts) this.rounds.push({ value: buffers, seconds: plan["Execution Time"] / 1_000 });
    await this.#client.query(
      `select posthorn.settle(json_build_array(json_build_object('claim', id::text, 'token', token::text, 'slot', 1, 'part', 1,
         'outcome', 'succeeded', 'closes', true)), null, null)
       from posthorn.claim_1 where worker = ${worker} order by id desc limit 1`,
    );
  }

  async close(): Promise<void> {
    await this.#client.end();
    await this.#post.stop();
  }
}

async function claimsBeside(bench: Bench): Promise<Figure> {
  bench.progress(`${parked.toLocaleString("en")} messages are parked`);
  const many = await Claims.open(bench, bench.messages(parked));
  const none = await Claims.open(bench, 0);
  bench.progress(`${claims} claims beside each`);
  for (let i = 0; i < claims + warmups; i += 1) {
    await none.claimOnce(i >= warmups);
    await many.claimOnce(i >= warmups);
  }
  await many.close();
  await none.close();
  const middle = ({ rounds }: Claims) => median(rounds.map(({ value }) => value));
  const { rounds } = many;
  return figure({
    name: names.parked,
    unit: "buffers",
    rounds,
    limits: none.rounds,
    ratio: middle(many) / middle(none),
    bar: { most: 1.2 },
  });
}

export const order: Row = {
  names: Object.values(names),
  // The default set stays under ten minutes.
  long: true,
  run: async (bench) => {
    const figures: Figure[] = [];
    if (bench.wants(names.drain)) {
      bench.note(`${names.drain}: ${keys} keys, tuned with concurrency ${tunedConcurrency}, as drain-handler`);
      const measured = await alternate(
        bench,
        drainHandlerProbe(bench, bench.messages(2 * drained)),
        drains(bench, drained),
      );
      figures.push(figure({ name: names.drain, unit: "messages/s", ...measured, bar: { least: 0.3 } }));
    }
    if (bench.wants(names.slow)) {
      bench.note(`${names.slow}: each message of one key of ${keys} takes ${slowMs} ms; the others count`);
      const measured = await alternate(bench, drains(bench, besideSlow), drains(bench, besideSlow, keyOf(0)));
      figures.push(figure({ name: names.slow, unit: "messages/s", ...measured, bar: { least: 0.8 } }));
    }
    if (bench.wants(names.parked)) figures.push(await claimsBeside(bench));
    return figures;
  },
};
