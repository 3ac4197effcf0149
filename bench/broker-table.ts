/** The brokers of `npm run bench -- --brokers`, each with what makes a destination that nobody has used before. Loaded when they are measured. */
import type { Broker } from "posthorn";
import { type Service, startHttpReceiver } from "./service.js";

export interface BrokerRow {
  readonly name: string;
  /** Module of scripts/services. */
  readonly service?: string;
  /** What the benchmarks start by themselves; without either the broker needs no service. */
  readonly start?: () => Promise<Service>;
  /** What of the client's own speed a relay must reach. */
  readonly least: number;
  /** A broker with a destination that nobody has used before. */
  readonly make: (url: string, destination: string) => Promise<Broker>;
}

export const realBrokers: readonly BrokerRow[] = [
  { name: "nats", service: "nats", least: 0.5, make: natsAt },
  { name: "kafka", service: "kafka", least: 0.5, make: kafkaAt },
  { name: "rabbitmq", service: "rabbitmq", least: 0.5, make: rabbitmqAt },
  {
    name: "redis",
    service: "redis",
    least: 0.5,
    make: async (url, stream) =>
      (await import("posthorn/redis")).redis({ url, stream, group: "bench", fromBeginning: true }),
  },
  { name: "sqs", service: "elasticmq", least: 0.7, make: sqsAt },
  { name: "http", start: startHttpReceiver, least: 0.7, make: httpAt },
  // No bar of the project; Mosquitto gives back what it has in its own time.
  {
    name: "mqtt",
    service: "mosquitto",
    least: 0,
    make: async (url, topic) => (await import("posthorn/mqtt")).mqtt({ url, topic }),
  },
];

async function natsAt(url: string, stream: string): Promise<Broker> {
  const [{ connect }, { jetstreamManager }] = await Promise.all([
    import("@nats-io/transport-node"),
    import("@nats-io/jetstream"),
  ]);
  const { host, username, password } = new URL(url);
  const login = username !== "" && { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
  const client = await connect({ servers: host, ...login });
  await (await jetstreamManager(client)).streams.add({ name: stream, subjects: [`${stream}.>`] });
  await client.close();
  const { nats } = await import("posthorn/nats");
  return nats({ url, stream, subject: `${stream}.placed` });
}

async function kafkaAt(url: string, topic: string): Promise<Broker> {
  const { Admin } = await import("@platformatic/kafka");
  const { hostname: host, port } = new URL(url);
  const admin = new Admin({ clientId: "bench", bootstrapBrokers: [{ host, port: Number(port) }] });
  await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1 });
  await admin.close();
  const { kafka } = await import("posthorn/kafka");
  return kafka({ url, topic, group: `${topic}-bench`, fromBeginning: true });
}

async function rabbitmqAt(url: string, queue: string): Promise<Broker> {
  const { Connection } = await import("rabbitmq-client");
  const client = new Connection(url);
  await client.queueDeclare({ queue, durable: true });
  await client.close();
  const { rabbitmq } = await import("posthorn/rabbitmq");
  return rabbitmq({ url, queue });
}

/** By the service. One is used at a time; nobody reads what a relay has sent to the one before, and the service holds all of it in memory. */
const queues = new Map<string, string>();

async function sqsAt(url: string, name: string): Promise<Broker> {
  const { SQSClient, CreateQueueCommand, DeleteQueueCommand } = await import("@aws-sdk/client-sqs");
  const { host, username, password } = new URL(url);
  const credentials = { accessKeyId: decodeURIComponent(username), secretAccessKey: decodeURIComponent(password) };
  const client = new SQSClient({ endpoint: `http://${host}`, region: "elasticmq", credentials });
  const former = queues.get(host);
  if (former !== undefined) await client.send(new DeleteQueueCommand({ QueueUrl: former }));
  const made = await client.send(
    new CreateQueueCommand({ QueueName: `${name}.fifo`, Attributes: { FifoQueue: "true" } }),
  );
  if (made.QueueUrl !== undefined) queues.set(host, made.QueueUrl);
  client.destroy();
  const { sqs } = await import("posthorn/sqs");
  return sqs({ url, queue: `${name}.fifo` });
}

let secrets: readonly string[] | undefined;

async function httpAt(base: string, path: string): Promise<Broker> {
  const { newWebhookSecret, webhook } = await import("posthorn/webhooks");
  secrets ??= [newWebhookSecret()];
  return webhook({ url: `${base}/${path}`, secrets, allowPrivate: ["127.0.0.1"], connections: 50 });
}
