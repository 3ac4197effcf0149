/** How fast a relay works off a backlog, with the order of 1,000 keys, beside the same client that is given the same events from memory. */
import { setMaxListeners } from "node:events";
import { type Broker, policies, posthorn } from "posthorn";
import type { Bench } from "../bench.js";
import type { BrokerRow } from "../broker-table.js";
import { rowsOfBrokers, type Watch, watched } from "../brokers.js";
import { alternate, type Figure, figure, median, type Probe, type Round } from "../measure.js";
import {
  Arrivals,
  numberOf,
  publishRelayed,
  relayed,
  relayedBytes,
  relayedKeys,
  relayPolicy,
  topic,
} from "../relayed.js";
import type { Service } from "../service.js";

const backlog = 100_000;
const atOnceMost = policies.relay.concurrency ?? 1;

/** A relay's own batches, which the limit sends as well. */
interface Shape {
  size: number;
}

async function drainOnce(bench: Bench, broker: Broker, count: number, shape: Shape): Promise<number> {
  const place = await bench.database();
  const post = posthorn({ service: "bench", database: place.url, migrate: "auto" });
  const arrivals = new Arrivals();
  const watch: Watch = {
    calls: [],
    acknowledged: 0,
    // Looked at after the time: only numbers are kept here, since messages that live on cost the collector, and not the relay, its time.
    onAcknowledged: (messages) => {
      for (const message of messages) kept.push(numberOf(message));
    },
  };
  const kept: number[] = [];
  post.relay("out", { ...relayPolicy, from: { topic }, to: watched(broker, watch), startFrom: "oldest" });
  await publishRelayed(post, 0, count);
  const begun = performance.now();
  await post.start();
  await post.untilIdle();
  const seconds = (performance.now() - begun) / 1_000;
  const [line] = await post.backlog();
  for (const n of kept) arrivals.came(n);
  if (arrivals.count !== count || line?.backlog !== 0 || line.deadLetters !== 0)
    throw new Error(`${arrivals.count} of ${count} arrived: ${JSON.stringify(line)}`);
  shape.size = Math.round(count / watch.calls.length);
  await post.stop();
  await place.drop();
  return seconds;
}

/** Events that lie in memory, in batches of the relay's size, and as many of them at once as the relay may have under way. */
async function limitOnce(broker: Broker, count: number, { size }: Shape): Promise<number> {
  const signal = new AbortController().signal;
  // Each call listens to it, and many are on their way.
  setMaxListeners(0, signal);
  const sender = await broker.openSender({ name: "limit", service: "shop", signal, onTrouble: () => undefined });
  const messages = Array.from({ length: count }, (_, n) => outgoing(n));
  const begun = performance.now();
  let next = 0;
  const sendOn = async (): Promise<void> => {
    while (next < count) {
      const batch = messages.slice(next, next + size);
      next += size;
      const sent = await sender.send(batch, signal);
      if (sent.some(({ kind }) => kind !== "acknowledged"))
        throw new Error(`not acknowledged: ${JSON.stringify(sent[0])}`);
    }
  };
  const atOnce = Math.max(1, Math.round(atOnceMost / size));
  await Promise.all(Array.from({ length: atOnce }, sendOn));
  const seconds = (performance.now() - begun) / 1_000;
  await sender.close();
  return seconds;
}

/** As a relay of the package sends it. */
export function outgoing(n: number) {
  const { key, ...rest } = relayed(n);
  const extensions = { partitionkey: key, correlationid: `${n}-0000000000000000`, contractversion: "1" };
  const data = JSON.stringify({ key, ...rest });
  const [id, time] = [`${n}-0000000000000000`, new Date().toISOString()];
  return {
    key,
    event: {
      id,
      source: "urn:posthorn:bench",
      type: "ThingRelayed",
      time,
      datacontenttype: "application/json",
      extensions,
      data,
      headers: {},
    },
  };
}

/** As many as fill the time; a new destination for each. What is made in much longer than it is sent is not made again and again. */
function probe(count: number, shortCount: number, bench: Bench, once: (count: number) => Promise<number>): Probe {
  return {
    round: async (ms): Promise<Round> => {
      const size = ms < bench.roundMs ? shortCount : count;
      const begun = performance.now();
      let [seconds, sum] = [0, 0];
      do {
        seconds += await once(size);
        sum += size;
      } while (seconds * 1_000 < ms && performance.now() - begun < 3 * ms);
      return { value: sum / seconds, seconds };
    },
  };
}

let destinations = 0;

async function measure(bench: Bench, row: BrokerRow, service: Service, name: string): Promise<Figure> {
  const shape: Shape = { size: atOnceMost };
  const fresh = () => {
    destinations += 1;
    return row.make(service.url, `relayed-${destinations}`);
  };
  const count = bench.messages(backlog);
  // Once before: the limit sends in the relay's batches.
  await drainOnce(bench, await fresh(), count / 5, shape);
  const sizes: number[] = [];
  const product = probe(count, count / 5, bench, async (size) => {
    const seconds = await drainOnce(bench, await fresh(), size, shape);
    sizes.push(shape.size);
    return seconds;
  });
  const limit = probe(count, count / 5, bench, async (size) => limitOnce(await fresh(), size, shape));
  const measured = await alternate(bench, limit, product);
  bench.note(
    `${name}: events of ${relayedBytes} bytes, ${relayedKeys} keys, policies.relay; ${median(sizes)} in a batch`,
  );
  return figure({ name, unit: "messages/s", ...measured, bar: { least: row.least } });
}

export const relay = rowsOfBrokers("relay", measure);
