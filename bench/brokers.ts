/**
 * The brokers of `npm run bench -- --brokers`. A broker is one line in the table: how its service is called in scripts/services, and how it is made from
 * the URL of the service. A service that cannot be had on this machine is skipped and named.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Broker } from "posthorn";
import type { Bench, Row } from "./bench.js";
import { type BrokerRow, realBrokers } from "./broker-table.js";
import type { Figure } from "./measure.js";
import type { Service } from "./service.js";

export const brokers: readonly BrokerRow[] = [
  // Costs nothing: how fast a relay itself can be. No client is so fast, so its limit is no bar.
  { name: "memory", least: 0, make: async () => new MemoryBroker() },
  ...realBrokers,
];

interface ServiceModule {
  available(): string | undefined | Promise<string | undefined>;
  start(options: { readonly folder: string; readonly log: string }): Promise<Service>;
}

/** Undefined where it cannot be had here. */
async function startService({ service, start: startOwn }: BrokerRow): Promise<Service | undefined> {
  if (startOwn !== undefined) return startOwn();
  if (service === undefined) return withoutService;
  const module = new URL(`../../scripts/services/${service}.mjs`, import.meta.url).href;
  const { available, start }: ServiceModule = await import(module);
  if ((await available()) === undefined) return undefined;
  const folder = await mkdtemp(join(tmpdir(), `posthorn-bench-${service}-`));
  const started = await start({ folder, log: join(folder, "service.log") });
  return {
    url: started.url,
    kill: () => started.kill(),
    restart: () => started.restart(),
    stop: async () => {
      await started.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

type Sender = Awaited<ReturnType<Broker["openSender"]>>;
type Messages = Parameters<Sender["send"]>[0];
type Answers = Awaited<ReturnType<Sender["send"]>>;

let memoryIsAway = false;
const withoutService: Service = {
  url: "",
  kill: async () => {
    memoryIsAway = true;
  },
  restart: async () => {
    memoryIsAway = false;
  },
  stop: async () => undefined,
};

class MemoryBroker implements Broker {
  readonly kind = "memory";
  readonly where = "this process";
  readonly style = { prefix: "ce-", percent: false };
  readonly features = {
    acknowledges: true,
    sends: true,
    receives: false,
    order: "destination",
    deduplicates: false,
    checksDestination: false,
    stablePosition: false,
    mode: "binary",
  } as const;

  async openSender(): Promise<Sender> {
    const error = new Error("it is away");
    return {
      send: async (messages) =>
        messages.map(() => (memoryIsAway ? { kind: "unavailable", error } : { kind: "acknowledged" })),
      close: async () => undefined,
    };
  }

  async openReceiver(): Promise<never> {
    throw new Error("nothing comes from here");
  }
}

/** A row for each broker, `<name>-<broker>`, while its service runs: one that fails takes no other with it. */
export function rowsOfBrokers(
  name: string,
  measure: (bench: Bench, row: BrokerRow, service: Service, figure: string) => Promise<Figure | undefined>,
): readonly Row[] {
  return brokers.map((row) => {
    const own = `${name}-${row.name}`;
    const run = async (bench: Bench): Promise<readonly Figure[]> => {
      const service = await startService(row);
      if (service === undefined) {
        bench.skip(own, `${row.service} cannot be had on this machine`);
        return [];
      }
      try {
        const figure = await measure(bench, row, service, own);
        return figure === undefined ? [] : [figure];
      } finally {
        await service.stop();
      }
    };
    return { names: [own], brokers: true, run };
  });
}

/** What a broker that is watched has acknowledged. */
export interface Watch {
  /** Messages of each call. */
  readonly calls: number[];
  /** How many were acknowledged at all. */
  acknowledged: number;
  readonly onAcknowledged: (messages: Messages, sent: Answers) => void;
}

/** The same broker, with somebody who looks at its answers. */
export function watched(broker: Broker, watch: Watch): Broker {
  return {
    kind: broker.kind,
    where: broker.where,
    features: broker.features,
    style: broker.style,
    ...(broker.atOnce !== undefined && { atOnce: broker.atOnce }),
    openReceiver: (options) => broker.openReceiver(options),
    openSender: async (options) => {
      const sender = await broker.openSender(options);
      return {
        close: () => sender.close(),
        send: async (messages, signal) => {
          watch.calls.push(messages.length);
          const sent = await sender.send(messages, signal);
          for (const { kind } of sent) if (kind === "acknowledged") watch.acknowledged += 1;
          watch.onAcknowledged(messages, sent);
          return sent;
        },
      };
    },
  };
}
