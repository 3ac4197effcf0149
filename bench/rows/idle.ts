/** idle-queries: statements a second of a worker with 10 queues and 10 subscriptions that have nothing to do. */
import { setTimeout as wait } from "node:timers/promises";
import { command, event, posthorn, type } from "posthorn";
import type { Row } from "../bench.js";
import { openCountingProxy } from "../counting-proxy.js";
import { figure, type Round } from "../measure.js";
import { handlerPolicy } from "../policy.js";

const name = "idle-queries";
const numbers = Array.from({ length: 10 }, (_, i) => i);
/** Longer than the rounds of other rows, so that what a worker does every few seconds is in each. */
const roundsLonger = 2;

export const idleQueries: Row = {
  names: [name],
  run: async (bench) => {
    const { url } = await bench.database();
    const proxy = await openCountingProxy(url);
    const post = posthorn({ service: "bench", database: proxy.url, migrate: "auto" });
    for (const i of numbers) {
      const asked = command(`DoWork${i}`, { queue: `work-${i}`, schema: type<{ n: number }>() });
      post.queue(`work-${i}`, handlerPolicy()).handle(asked, () => undefined);
      const told = event(`WorkDone${i}`, { topic: `done-${i}`, schema: type<{ n: number }>() });
      post.subscription(`ledger-${i}`, { topic: `done-${i}`, ...handlerPolicy() }).on(told, () => undefined);
    }
    await post.start();
    await post.untilIdle();
    // Looks become rarer for a while after a start.
    bench.progress("warm-up");
    await wait(bench.roundMs);
    const rounds: Round[] = [];
    while (rounds.length < bench.rounds) {
      bench.progress(`round ${rounds.length + 1} of ${bench.rounds}`);
      const [begun, before] = [performance.now(), proxy.statements()];
      await wait(bench.roundMs * roundsLonger);
      const seconds = (performance.now() - begun) / 1_000;
      rounds.push({ value: (proxy.statements() - before) / seconds, seconds });
    }
    await post.stop();
    await proxy.close();
    return [figure({ name, unit: "statements/s", rounds, bar: { atMost: 2 } })];
  },
};
