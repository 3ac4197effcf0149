/** An outage of a minute at 1,000 events a second: how long after the broker's return the backlog is gone. */
import { setTimeout as wait } from "node:timers/promises";
import { posthorn } from "posthorn";
import type { Bench } from "../bench.js";
import type { BrokerRow } from "../broker-table.js";
import { rowsOfBrokers, watched } from "../brokers.js";
import { type Figure, figure } from "../measure.js";
import { Arrivals, publishRelayed, relayPolicy, topic } from "../relayed.js";
import type { Service } from "../service.js";

const perSecond = 1_000;
const outageMs = 60_000;
const beforeMs = 5_000;
const eachMs = 100;
const giveUpMs = 120_000;
/** What is on its way at this rate while nothing is behind. */
const gone = perSecond / 2;

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };

async function measure(bench: Bench, row: BrokerRow, service: Service, name: string): Promise<Figure> {
  const { url } = await bench.database();
  const arrivals = new Arrivals();
  const to = watched(await row.make(service.url, "recovery"), {
    calls: [],
    acknowledged: 0,
    onAcknowledged: (messages, sent) => {
      for (const [i, message] of messages.entries()) if (sent[i]?.kind === "acknowledged") arrivals.add(message);
    },
  });
  const post = posthorn({ service: "bench", database: url, migrate: "auto", logger: silent });
  post.relay("out", { ...relayPolicy, from: { topic }, to });
  await post.start();
  let published = 0;
  let publishing = true;
  const publisher = (async () => {
    const begun = performance.now();
    while (publishing) {
      const due = Math.floor(((performance.now() - begun) * perSecond) / 1_000);
      await publishRelayed(post, published, due);
      published = due;
      await wait(eachMs);
    }
  })();
  await wait(bench.messages(beforeMs));
  await service.kill();
  bench.progress("the broker is away");
  await wait(bench.messages(outageMs));
  const behind = published - arrivals.count;
  await service.restart();
  const back = performance.now();
  bench.progress("the broker is back");
  while (published - arrivals.count > gone && performance.now() - back < giveUpMs) await wait(10);
  const seconds = (performance.now() - back) / 1_000;
  publishing = false;
  await publisher;
  await post.untilIdle();
  const [line] = await post.backlog();
  await post.stop();
  if (arrivals.count !== published || line?.deadLetters !== 0) {
    throw new Error(`${arrivals.count} of ${published} arrived: ${JSON.stringify(line)}`);
  }
  if (behind <= gone) throw new Error("the broker was not away: events arrived meanwhile");
  bench.note(`${name}: ${published} events, each key in order, none lost`);
  return figure({ name, unit: "s", rounds: [{ value: seconds, seconds }], bar: { atMost: 15 } });
}

export const relayRecovery = rowsOfBrokers("relay-recovery", measure);
