/**
 * dedupe: sends with a key of dedupe that nobody has said before, beside sends without. delayed-lag-p99: how late the handlers of delayed messages
 * start, while a thousand come due each second and a million wait.
 */
import { setTimeout as wait } from "node:timers/promises";
import { posthorn } from "posthorn";
import type { Bench, Row } from "../bench.js";
import { connections } from "../limits.js";
import { alternate, figure, type Probe, percentile, type Round, rateOfMany } from "../measure.js";
import { payload, payloads, Work } from "../payload.js";
import { handlerPolicy } from "../policy.js";

const waiting = 1_000_000;
const duePerSecond = 1_000;
/** Messages of one call: so many come due at once. */
const together = 10;
/** How long before the first comes due: until all are written. */
const leadMs = 5_000;

export const dedupe: Row = {
  names: ["dedupe"],
  run: async (bench) => {
    const { url } = await bench.database();
    const post = posthorn({ service: "bench", database: url, migrate: "auto" });
    let said = 0;
    const senders = (send: () => Promise<unknown>): Probe => {
      const one = async () => {
        await send();
        return 1;
      };
      return {
        round: (ms) =>
          rateOfMany(
            ms,
            Array.from({ length: connections }, () => one),
          ),
      };
    };
    const plain = senders(() => post.send(Work, payload(said)));
    const keyed = senders(() => {
      said += 1;
      return post.send(Work, payload(said), { dedupe: { key: `key ${said}`, mode: "drop", windowMs: 3_600_000 } });
    });
    const measured = await alternate(bench, plain, keyed);
    await post.stop();
    bench.note(`dedupe: ${connections} senders, a window of an hour; the limit is the same without a key`);
    return [figure({ name: "dedupe", unit: "messages/s", ...measured, bar: { least: 0.5 } })];
  },
};

async function lags(bench: Bench, url: string): Promise<Round> {
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  const late: number[] = [];
  post.queue("work", handlerPolicy(500)).handle(Work, async ({ cents }) => {
    late.push(Date.now() - cents);
  });
  const seconds = (bench.roundMs / 1_000) * 3;
  const count = Math.ceil(seconds * duePerSecond);
  const firstAt = Date.now() + leadMs;
  for (let sent = 0; sent < count; sent += together) {
    const at = firstAt + (sent / duePerSecond) * 1_000;
    // Written while others come due: the last of them long before their time.
    await post.sendMany(Work, Array(together).fill({ ...payload(sent), cents: Math.round(at) }), {
      runAt: new Date(at),
    });
    if (sent === 0) await post.start();
  }
  while (late.length < count) await wait(50);
  await post.stop();
  return { value: percentile(late, 0.99), seconds };
}

export const delayedLag: Row = {
  names: ["delayed-lag-p99"],
  long: true,
  run: async (bench) => {
    const { url } = await bench.database();
    const count = bench.messages(waiting);
    const post = posthorn({ service: "bench", database: url, migrate: "auto" });
    post.queue("work", handlerPolicy(500)).handle(Work, () => undefined);
    const rounds: Round[] = [];
    for (let sent = 0; sent < count; sent += payloads.length) {
      if (sent % 50_000 === 0) bench.progress(`${sent.toLocaleString("en")} of ${count.toLocaleString("en")} wait`);
      await post.sendMany(Work, payloads, { delayMs: 86_400_000 });
    }
    await post.stop();
    while (rounds.length < bench.rounds) {
      bench.progress(`round ${rounds.length + 1} of ${bench.rounds}`);
      rounds.push(await lags(bench, url));
    }
    bench.note(
      `delayed-lag-p99: ${duePerSecond} come due a second while ${count.toLocaleString("en")} wait for tomorrow`,
    );
    return [figure({ name: "delayed-lag-p99", unit: "ms", rounds, bar: { atMost: 100 } })];
  },
};
