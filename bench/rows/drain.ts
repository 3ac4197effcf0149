/** How fast a backlog is worked off by one worker process: tuned, at every default, and in transaction mode. */
import { posthorn } from "posthorn";
import type { Bench, Row } from "../bench.js";
import { insertLimit, transactionLimit } from "../limits.js";
import { alternate, type Bar, type Figure, figure, type Probe } from "../measure.js";
import { payloads, Work } from "../payload.js";
import { handlerPolicy, transactionPolicy } from "../policy.js";

interface Drain {
  readonly name: string;
  readonly messages: number;
  readonly idempotency: "handler" | "transaction";
  readonly concurrency?: number;
  readonly limit: (url: string, roundMs: number) => Promise<Probe>;
  readonly bar: Bar;
}

/** Each round has its own database: a fresh log, a fresh worker. */
async function drainOnce(url: string, drain: Drain): Promise<number> {
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  let handled = 0;
  let all: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    all = resolve;
  });
  const count = () => {
    handled += 1;
    if (handled === drain.messages) all();
  };
  if (drain.idempotency === "transaction") {
    post.queue("work", transactionPolicy(drain.concurrency)).handle(Work, async (_payload, { tx }) => {
      await tx.query("insert into bench_business (v) values ($1)", ["x"]);
      count();
    });
  } else {
    post.queue("work", handlerPolicy(drain.concurrency)).handle(Work, async (_payload, { signal }) => {
      signal.throwIfAborted();
      count();
    });
  }
  for (let sent = 0; sent < drain.messages; sent += payloads.length) await post.sendMany(Work, payloads);
  const begun = performance.now();
  await post.start();
  await done;
  const seconds = (performance.now() - begun) / 1_000;
  await post.stop();
  return drain.messages / seconds;
}

async function run(drain: Drain, { database, rounds, roundMs, note }: Bench): Promise<readonly Figure[]> {
  const limit = await drain.limit(await database(), roundMs);
  const product: Probe = {
    round: async () => {
      const url = await database();
      if (drain.idempotency === "transaction") await (await transactionLimit(url, 0)).close?.();
      return drainOnce(url, drain);
    },
  };
  if (drain.concurrency !== undefined) note(`${drain.name}: tuned with concurrency ${drain.concurrency}`);
  const [limits, values] = await alternate(limit, product, rounds);
  return [figure(drain.name, "messages/s", values, limits, drain.bar, roundMs / 1_000)];
}

const row = (drain: Drain): Row => ({ names: [drain.name], run: (bench) => run(drain, bench) });

export const drainHandler = row({
  name: "drain-handler",
  messages: 200_000,
  idempotency: "handler",
  concurrency: 500,
  limit: insertLimit,
  bar: { least: 0.5 },
});
export const drainDefaults = row({
  name: "drain-defaults",
  messages: 40_000,
  idempotency: "handler",
  limit: insertLimit,
  bar: { least: 0.06 },
});
export const drainTransaction = row({
  name: "drain-transaction",
  messages: 10_000,
  idempotency: "transaction",
  limit: transactionLimit,
  bar: { least: 0.6 },
});
