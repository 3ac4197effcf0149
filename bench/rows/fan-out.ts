/** What five subscriptions to one topic cost: whoever publishes, and the worker that delivers each event five times. */
import { type Post, posthorn, type Sql } from "posthorn";
import { checkDrained } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { alternate, type Figure, figure, type Probe, type Round, rate } from "../measure.js";
import { payloads, WorkDone } from "../payload.js";
import { handlerPolicy, tunedConcurrency } from "../policy.js";
import { drainHandlerProbe } from "./drain.js";

const readers = 5;
const names = { publish: "fan-out-5-publish", deliver: "fan-out-5-deliver" } as const;
const events = 40_000;

/** So many subscriptions; the result is how many deliveries there have been. */
function subscribe(post: Post<Sql>, count: number): () => number {
  let delivered = 0;
  for (let i = 1; i <= count; i += 1) {
    const options = { topic: "work-done", ...handlerPolicy(tunedConcurrency) };
    post.subscription(`reader-${i}`, options).on(WorkDone, async (_payload, { signal }) => {
      signal.throwIfAborted();
      delivered += 1;
    });
  }
  return () => delivered;
}

/** A worker comes and goes: a subscription reads what is published after it was made. */
async function register(url: string, count: number): Promise<void> {
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  subscribe(post, count);
  await post.start();
  await post.stop();
}

async function publishing(bench: Bench, count: number): Promise<Probe> {
  const { url } = await bench.database();
  await register(url, count);
  const post = posthorn({ service: "bench", database: url });
  return {
    round: (ms) =>
      rate(ms, async () => {
        await post.publishMany(WorkDone, payloads);
        return payloads.length;
      }),
    close: () => post.stop(),
  };
}

async function deliverOnce(bench: Bench, count: number): Promise<{ deliveries: number; seconds: number }> {
  const place = await bench.database();
  await register(place.url, readers);
  const post = posthorn({ service: "bench", database: place.url });
  const delivered = subscribe(post, readers);
  for (let sent = 0; sent < count; sent += payloads.length) await post.publishMany(WorkDone, payloads);
  const begun = performance.now();
  await post.start();
  await post.untilIdle();
  const seconds = (performance.now() - begun) / 1_000;
  await checkDrained(post, delivered(), count * readers);
  await post.stop();
  await place.drop();
  return { deliveries: delivered(), seconds };
}

function delivering(bench: Bench): Probe {
  const count = bench.messages(events);
  return {
    round: async (ms): Promise<Round> => {
      const sum = { deliveries: 0, seconds: 0 };
      do {
        const one = await deliverOnce(bench, ms < bench.roundMs ? Math.ceil(count / 5_000) * 1_000 : count);
        sum.deliveries += one.deliveries;
        sum.seconds += one.seconds;
      } while (sum.seconds * 1_000 < ms);
      return { value: sum.deliveries / sum.seconds, seconds: sum.seconds };
    },
  };
}

export const fanOut: Row = {
  names: Object.values(names),
  // The default set stays under ten minutes.
  long: true,
  run: async (bench) => {
    const figures: Figure[] = [];
    if (bench.wants(names.publish)) {
      const measured = await alternate(bench, await publishing(bench, 1), await publishing(bench, readers));
      figures.push(figure({ name: names.publish, unit: "messages/s", ...measured, bar: { least: 0.9 } }));
    }
    if (bench.wants(names.deliver)) {
      bench.note(
        `${names.deliver}: tuned with concurrency ${tunedConcurrency} for each subscription, as drain-handler`,
      );
      const limit = drainHandlerProbe(bench, bench.messages(events * readers));
      const measured = await alternate(bench, limit, delivering(bench));
      figures.push(figure({ name: names.deliver, unit: "deliveries/s", ...measured, bar: { least: 0.5 } }));
    }
    return figures;
  },
};
