/**
 * Goal: what src/brokers/kafka promises holds on a real broker.
 * Method: the conformance suite, and what only Kafka has: partitions, groups that are divided anew, offsets, limits of a topic.
 */
import { Admin } from "@platformatic/kafka";
import { kafka, kafkaFeatures } from "../../src/brokers/kafka/index.js";
import { type OwnService, startService } from "../support/services.js";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";
import { brokerConformance, type Network } from "./conformance.js";
import { unreadable } from "./unreadable.js";

interface Kafka extends OwnService {
  readonly network: Network;
}

/** A client connects to the address that the broker tells it: the broker has a second listener, whose address is the proxy's. */
async function startKafka(settings: Readonly<Record<string, string>> = {}): Promise<Kafka> {
  let proxy: TcpProxy | undefined;
  const behind = async (port: number) => {
    proxy = await openTcpProxy(`kafka://127.0.0.1:${port}`);
    return Number(new URL(proxy.through("kafka://127.0.0.1:1")).port);
  };
  const service = await startService("kafka", { settings, behind });
  if (proxy === undefined) throw new Error("the service did not ask for a proxy");
  return { ...service, network: proxy };
}

async function makeTopic(url: string, topic: string, partitions = 3, configs: Readonly<Record<string, string>> = {}) {
  const { hostname: host, port } = new URL(url);
  const admin = new Admin({ clientId: "tests", bootstrapBrokers: [{ host, port: Number(port) }] });
  try {
    const given = Object.entries(configs).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ topics: [topic], partitions, replicas: 1, configs: given });
  } finally {
    await admin.close();
  }
}

const started = new Map<string, Kafka>();

brokerConformance({
  name: "Kafka",
  features: kafkaFeatures,
  service: async () => {
    const service = await startKafka();
    started.set(service.url, service);
    return service;
  },
  network: async (service) => {
    const { network } = started.get(service.url) ?? {};
    if (network === undefined) throw new Error("the network is that of its service");
    return network;
  },
  make: ({ url, destination, timeoutMs }) =>
    kafka({
      url,
      topic: destination,
      group: `${destination}-group`,
      timeoutMs,
      sessionTimeoutMs: 6_000,
    }),
  prepare: ({ url, destination }) => makeTopic(url, destination, 3),
  unreadable: unreadable("kafka"),
  headers: "any",
  tooLargeBytes: 1_048_576,
});
