/**
 * How fast a backlog is worked off by one worker process: tuned, at every default, in transaction mode, and on the embedded database.
 * A drain counts from the call of `start` to the moment at which every message is settled.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { type Post, posthorn, type Sql } from "posthorn";
import { checkDrained, fill } from "../backlog.js";
import type { Bench, Place, Row } from "../bench.js";
import { businessRow, businessTable, insertLimit, pgliteLimit, transactionLimit } from "../limits.js";
import { alternate, type Bar, figure, type Probe, type Round } from "../measure.js";
import { Work } from "../payload.js";
import { handlerPolicy, transactionPolicy, tunedConcurrency } from "../policy.js";

interface Drain {
  readonly name: string;
  readonly messages: number;
  readonly idempotency: "handler" | "transaction";
  readonly concurrency?: number;
  readonly limit: (url: string) => Promise<Probe>;
  /** Where one drain takes place: a fresh log, a fresh worker. */
  readonly place: (bench: Bench) => Promise<Place>;
  readonly bar: Bar;
}

/** Declares the queue; the result is how many messages it has handled so far. */
function declare(post: Post<Sql>, { idempotency, concurrency }: Drain): () => number {
  let handled = 0;
  if (idempotency === "transaction") {
    post.queue("work", transactionPolicy(concurrency)).handle(Work, async (_payload, { tx, signal }) => {
      signal.throwIfAborted();
      await tx.query(businessRow[0], [...businessRow[1]]);
      handled += 1;
    });
  } else {
    post.queue("work", handlerPolicy(concurrency)).handle(Work, async (_payload, { signal }) => {
      signal.throwIfAborted();
      handled += 1;
    });
  }
  return () => handled;
}

async function drainOnce(url: string, drain: Drain, messages: number): Promise<number> {
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  const handled = declare(post, drain);
  await fill(post, messages);
  const begun = performance.now();
  await post.start();
  await post.untilIdle();
  const seconds = (performance.now() - begun) / 1_000;
  await checkDrained(post, handled(), messages);
  await post.stop();
  return seconds;
}

/** As many drains as fill the time; what lies between them is not counted. */
async function drains(bench: Bench, drain: Drain, messages: number, ms: number): Promise<Round> {
  let seconds = 0;
  let count = 0;
  do {
    const place = await drain.place(bench);
    seconds += await drainOnce(place.url, drain, messages);
    count += messages;
    await place.drop();
  } while (seconds * 1_000 < ms);
  return { value: count / seconds, seconds };
}

async function run(drain: Drain, bench: Bench) {
  const limit = await drain.limit((await bench.database()).url);
  const messages = bench.messages(drain.messages);
  const product: Probe = {
    // The warm-up is for this process, and needs no whole drain.
    round: (ms) => drains(bench, drain, ms < bench.roundMs ? messages / 5 : messages, ms),
  };
  if (drain.concurrency !== undefined) bench.note(`${drain.name}: tuned with concurrency ${drain.concurrency}`);
  const measured = await alternate(bench, limit, product);
  return [figure({ name: drain.name, unit: "messages/s", ...measured, bar: drain.bar })];
}

/** The drain of the row `drain-handler`, as the limit of other rows. */
export function drainHandlerProbe(bench: Bench, messages: number): Probe {
  const drain: Drain = { ...tunedHandler, messages };
  return { round: (ms) => drains(bench, drain, ms < bench.roundMs ? messages / 5 : messages, ms) };
}

const row = (drain: Drain): Row => ({ names: [drain.name], run: (bench) => run(drain, bench) });

async function withBusinessTable(bench: Bench): Promise<Place> {
  const place = await bench.database();
  const client = new pg.Client(place.url);
  await client.connect();
  await client.query(businessTable);
  await client.end();
  return place;
}

async function embedded(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-bench-embedded-"));
  return { url: `embedded:${folder}`, drop: () => rm(folder, { recursive: true, force: true }) };
}

const tunedHandler: Drain = {
  name: "drain-handler",
  messages: 200_000,
  idempotency: "handler",
  concurrency: tunedConcurrency,
  limit: insertLimit,
  place: (bench) => bench.database(),
  bar: { least: 0.5 },
};
export const drainHandler = row(tunedHandler);
export const drainDefaults = row({
  name: "drain-defaults",
  messages: 30_000,
  idempotency: "handler",
  limit: insertLimit,
  place: (bench) => bench.database(),
  bar: { least: 0.06 },
});
export const drainTransaction = row({
  name: "drain-transaction",
  messages: 5_000,
  idempotency: "transaction",
  limit: transactionLimit,
  place: withBusinessTable,
  bar: { least: 0.6 },
});
export const drainPglite = row({
  name: "drain-pglite",
  messages: 100_000,
  idempotency: "handler",
  concurrency: tunedConcurrency,
  limit: pgliteLimit,
  place: embedded,
  bar: { least: 0.3 },
});
