/** What many lanes of a topic cost whoever claims from them: the same events with a key, in one lane and in hundreds. */
import { event, type Post, posthorn, type Sql } from "posthorn";
import { checkDrained } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { alternate, figure, type Probe, type Round } from "../measure.js";
import { payload, workSchema } from "../payload.js";
import { handlerPolicy } from "../policy.js";

const name = "lanes-256";
const lanes = 256;
/** Few: with so many lanes a claim finds little in each, and looks at all of them. */
const events = 4_000;
const together = 1_000;

const Keyed = event("KeyedWorkDone", {
  topic: "work-by-key",
  schema: workSchema,
  key: ({ id }) => id,
});

function subscribe(post: Post<Sql>, count: number): () => number {
  let handled = 0;
  post.topic("work-by-key", { lanes: count });
  post.subscription("reader", { topic: "work-by-key", ...handlerPolicy() }).on(Keyed, async (_payload, { signal }) => {
    signal.throwIfAborted();
    handled += 1;
  });
  return () => handled;
}

async function drainOnce(bench: Bench, count: number, messages: number): Promise<number> {
  const { url, drop } = await bench.database();
  const before = posthorn({ service: "bench", database: url, migrate: "auto" });
  subscribe(before, count);
  await before.start();
  await before.stop();
  const post = posthorn({ service: "bench", database: url });
  const handled = subscribe(post, count);
  for (let sent = 0; sent < messages; sent += together) {
    await post.publishMany(
      Keyed,
      Array.from({ length: together }, (_, i) => payload(sent + i)),
    );
  }
  const begun = performance.now();
  await post.start();
  await post.untilIdle();
  const seconds = (performance.now() - begun) / 1_000;
  await checkDrained(post, handled(), messages);
  await post.stop();
  await drop();
  return seconds;
}

function draining(bench: Bench, count: number): Probe {
  return {
    round: async (ms): Promise<Round> => {
      const messages = Math.ceil(bench.messages(events) / (ms < bench.roundMs ? 5 : 1) / together) * together;
      let [seconds, drained] = [0, 0];
      do {
        seconds += await drainOnce(bench, count, messages);
        drained += messages;
      } while (seconds * 1_000 < ms);
      return { value: drained / seconds, seconds };
    },
  };
}

export const manyLanes: Row = {
  names: [name],
  long: true,
  run: async (bench) => {
    const measured = await alternate(bench, draining(bench, 1), draining(bench, lanes));
    bench.note(`${name}: one worker at every default; the limit is the same topic with one lane`);
    return [figure({ name, unit: "events/s", ...measured, bar: { least: 0.02 } })];
  },
};
