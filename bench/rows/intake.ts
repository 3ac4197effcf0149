/**
 * How fast an intake takes in what lies in a broker, beside the lower of two: what the same client alone takes out of it, in the same batches and with the
 * same acknowledgements, and what the database takes in.
 */
import { type Broker, posthorn } from "posthorn";
import type { Bench } from "../bench.js";
import type { BrokerRow } from "../broker-table.js";
import { rowsOfBrokers } from "../brokers.js";
import { insertLimit } from "../limits.js";
import { alternate, type Figure, figure, median, type Probe, type Round } from "../measure.js";
import { relayedBytes, ThingRelayed } from "../relayed.js";
import type { Service } from "../service.js";
import { pushed, pushedCount } from "./intake-pushed.js";
import { outgoing } from "./relay.js";
import type { Taking } from "./taking.js";

/** Of the client alone, and of rows that are inserted by 1,000. */
const least = { client: 0.7, insert: 0.3 } as const;
const batch = 1_000;
const count = 50_000;
/** ElasticMQ takes and gives about a thousand in a second. */
const sqsCount = 10_000;
const counts: ReadonlyMap<string, number> = new Map([
  ["http", pushedCount],
  ["sqs", sqsCount],
]);
/** Where nothing comes for so long, something is lost or was never sent: the row fails, and does not wait for ever. */
const silenceMs = 30_000;

type Receiver = Awaited<ReturnType<Broker["openReceiver"]>>;
type Incoming = Awaited<ReturnType<Receiver["receive"]>>;

const signal = new AbortController().signal;
const opening = { name: "bench", service: "bench", signal, onTrouble: () => undefined } as const;

/** Messages that lie in memory: how fast an intake itself can be. */
class MemorySource implements Broker {
  readonly kind = "memory";
  readonly where = "this process";
  readonly style = { prefix: "ce-", percent: false };
  readonly features = {
    acknowledges: true,
    sends: true,
    receives: true,
    order: "destination",
    deduplicates: false,
    checksDestination: false,
    stablePosition: false,
    mode: "binary",
  } as const;
  readonly #messages: Incoming[number][] = [];

  async openSender(): ReturnType<Broker["openSender"]> {
    return {
      send: async (messages) => {
        for (const { event } of messages) {
          const { source, id, type, extensions, data } = event;
          const attributes = { specversion: "1.0", source, id, type, ...extensions };
          const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value]));
          this.#messages.push({ headers, contentType: "application/json", body: Buffer.from(data), handle: undefined });
        }
        return messages.map(() => ({ kind: "acknowledged" }) as const);
      },
      close: async () => undefined,
    };
  }

  async openReceiver(): Promise<Receiver> {
    return {
      receive: async ({ max }) => {
        // As a client does, it gives others their turn.
        await new Promise((resolve) => setImmediate(resolve));
        return this.#messages.splice(0, max);
      },
      acknowledge: async () => undefined,
      close: async () => undefined,
    };
  }
}

/** Fills it. A receiver was there before: some brokers keep only what somebody has asked for. */
async function fill(broker: Broker, messages: number): Promise<void> {
  await (await broker.openReceiver(opening)).close();
  const sender = await broker.openSender(opening);
  for (let from = 0; from < messages; from += batch) {
    const sent = await sender.send(
      Array.from({ length: Math.min(batch, messages - from) }, (_, i) => outgoing(from + i)),
      signal,
    );
    if (sent.some(({ kind }) => kind !== "acknowledged"))
      throw new Error(`not acknowledged: ${JSON.stringify(sent[0])}`);
  }
  await sender.close();
}

/** The same broker, with somebody who counts what is acknowledged. */
function counted(broker: Broker, onAcknowledged: (messages: number) => void): Broker {
  const { kind, where, features, style } = broker;
  return {
    kind,
    where,
    features,
    style,
    openSender: (options) => broker.openSender(options),
    openReceiver: async (options) => {
      const receiver = await broker.openReceiver(options);
      return {
        receive: (asked) => receiver.receive(asked),
        close: () => receiver.close(),
        acknowledge: async (messages) => {
          await receiver.acknowledge(messages);
          onAcknowledged(messages.length);
        },
      };
    },
  };
}

function silent(left: number): Error {
  return new Error(`nothing came for ${silenceMs} ms, and ${left} messages are missing`);
}

async function takeInOnce(bench: Bench, broker: Broker, messages: number): Promise<number> {
  await fill(broker, messages);
  const place = await bench.database();
  const post = posthorn({ service: "bench", database: place.url, migrate: "auto" });
  await post.migrate();
  let left = messages;
  let end: (error?: Error) => void = () => undefined;
  const ended = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  ended.catch(() => undefined);
  const silence = setTimeout(() => end(silent(left)), silenceMs);
  const watched = counted(broker, (acknowledged) => {
    left -= acknowledged;
    silence.refresh();
    if (left <= 0) end();
  });
  // The name of who was there before: some brokers keep what comes for a client of that name.
  post.intake(opening.name, { from: watched, into: [ThingRelayed], batchSize: batch });
  const begun = performance.now();
  await post.start();
  await ended;
  clearTimeout(silence);
  const seconds = (performance.now() - begun) / 1_000;
  const [line] = await post.intakes();
  if (line?.written !== messages)
    throw new Error(`${line?.written} of ${messages} were written: ${JSON.stringify(line)}`);
  await post.stop();
  await place.drop();
  return seconds;
}

async function takeAloneOnce(broker: Broker, messages: number): Promise<number> {
  await fill(broker, messages);
  const begun = performance.now();
  const receiver = await broker.openReceiver(opening);
  let last = begun;
  for (let left = messages; left > 0; ) {
    const taken = await receiver.receive({ max: batch, waitMs: 1_000, signal });
    if (taken.length > 0) {
      await receiver.acknowledge(taken);
      last = performance.now();
    } else if (performance.now() - last > silenceMs) throw silent(left);
    left -= taken.length;
  }
  const seconds = (performance.now() - begun) / 1_000;
  await receiver.close();
  return seconds;
}

/** At least once, and then until so long was measured; what is filled in much longer than it is taken in is not filled again and again. */
async function rateOf(ms: number, messages: number, once: () => Promise<number>): Promise<Round> {
  const begun = performance.now();
  let [seconds, sum] = [0, 0];
  do {
    seconds += await once();
    sum += messages;
  } while (seconds * 1_000 < ms && performance.now() - begun < 3 * ms);
  return { value: sum / seconds, seconds };
}

let destinations = 0;

/** What lies in a broker, in a new destination each time. */
function lying(bench: Bench, row: BrokerRow, service: Service, messages: number): Taking {
  const fresh = async (): Promise<Broker> => {
    destinations += 1;
    return row.name === "memory" ? new MemorySource() : row.make(service.url, `taken-${destinations}`);
  };
  return {
    product: async () => takeInOnce(bench, await fresh(), messages),
    alone: async () => takeAloneOnce(await fresh(), messages),
    close: async () => undefined,
  };
}

async function measure(bench: Bench, row: BrokerRow, service: Service, name: string): Promise<Figure> {
  const messages = bench.messages(counts.get(row.name) ?? count);
  const taking = await (row.name === "http" ? pushed(bench, messages) : lying(bench, row, service, messages));
  const insert = await insertLimit((await bench.database()).url);
  const [inserts, clients]: [number[], number[]] = [[], []];
  const product: Probe = { round: (ms) => rateOf(ms, messages, taking.product) };
  const limit: Probe = {
    round: async (ms) => {
      const inserted = await insert.round(ms / 2);
      const taken = await rateOf(ms / 2, messages, taking.alone);
      inserts.push(inserted.value);
      clients.push(taken.value);
      const value = Math.min(inserted.value * least.insert, taken.value * least.client);
      return { value, seconds: inserted.seconds + taken.seconds };
    },
    close: async () => {
      await insert.close?.();
      await taking.close();
    },
  };
  const measured = await alternate(bench, limit, product);
  const [i, c] = [median(inserts), median(clients)].map((value) => Math.round(value).toLocaleString("en"));
  bench.note(
    `${name}: events of ${relayedBytes} bytes in batches of up to ${batch}; the limit is the lower of ${least.insert} of ${i} rows/s and ${least.client} of ${c} messages/s of the client alone`,
  );
  return figure({ name, unit: "messages/s", ...measured, bar: { least: 1 } });
}

export const intake = rowsOfBrokers("intake", measure);
