/** From the call of send to the broker's acknowledgement in another process, at 200 a second, beside N and the client's own acknowledgement. */
import { setMaxListeners } from "node:events";
import type { Bench } from "../bench.js";
import type { BrokerRow } from "../broker-table.js";
import { rowsOfBrokers } from "../brokers.js";
import { alternate, type Figure, figure, type Probe, percentile, type Round } from "../measure.js";
import { startProgram } from "../program.js";
import { type SenderCalls, sendAtRate } from "../programs/arrivals.js";
import type { ReceiverCalls } from "../programs/latencies.js";
import { relayed } from "../relayed.js";
import type { Service } from "../service.js";
import { openTraffic } from "./traffic.js";

const perSecond = 200;
const ofNotify = 1.5;
const ofClient = 2;

/** How long the client itself takes for one event at this rate. */
async function ownAcknowledgement(row: BrokerRow, service: Service) {
  const signal = new AbortController().signal;
  // Each call listens to it, and several are on their way.
  setMaxListeners(0, signal);
  const broker = await row.make(service.url, "own");
  const sender = await broker.openSender({ name: "own", service: "shop", signal, onTrouble: () => undefined });
  const event = { id: "", source: "urn:posthorn:bench", type: "ThingRelayed", extensions: {}, headers: {} };
  const send = async (n: number): Promise<number> => {
    const begun = performance.now();
    await sender.send([{ key: null, event: { ...event, id: `own-${n}`, data: JSON.stringify(relayed(n)) } }], signal);
    return performance.now() - begun;
  };
  return {
    p50: async (ms: number): Promise<number> => {
      const taken: number[] = [];
      await sendAtRate({ perSecond, ms }, async (n) => taken.push(await send(n)));
      return percentile(taken, 0.5);
    },
    close: () => sender.close(),
  };
}

async function measure(bench: Bench, row: BrokerRow, service: Service, name: string): Promise<Figure> {
  const { url } = await bench.database();
  const [notify, own] = [await openTraffic("notify", url), await ownAcknowledgement(row, service)];
  const receiver = await startProgram<ReceiverCalls>("relay-receiver", {
    url,
    broker: row.name,
    brokerUrl: service.url,
  });
  const sender = await startProgram<SenderCalls>("message-sender", { url });
  const limit: Probe = {
    round: async (ms): Promise<Round> => {
      const { p50, seconds } = await notify.at(perSecond, ms);
      return { value: ofNotify * p50 + ofClient * (await own.p50(ms)), seconds };
    },
    close: async () => {
      await notify.stop();
      await own.close();
    },
  };
  const product: Probe = {
    round: async (ms): Promise<Round> => {
      const sent = await sender.call("send", { perSecond, ms });
      return { value: percentile(await receiver.call("take", sent.count), 0.5), seconds: sent.seconds };
    },
    close: async () => {
      await sender.stop();
      await receiver.stop();
    },
  };
  const measured = await alternate(bench, limit, product);
  bench.note(`${name}: its limit is ${ofNotify} N50 and ${ofClient} times the client's own acknowledgement`);
  return figure({ name, unit: "ms", ...measured, bar: { most: 1 } });
}

export const relayLatency = rowsOfBrokers("relay-latency-p50", measure);
