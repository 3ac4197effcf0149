import { rabbitmq, rabbitmqFeatures } from "../../src/brokers/rabbitmq/index.js";
import { startService } from "../support/services.js";
import { brokerConformance, type Place } from "./conformance.js";
import { unreadable } from "./unreadable.js";

brokerConformance({
  name: "RabbitMQ",
  features: rabbitmqFeatures,
  service: () => startService("rabbitmq", { settings: { max_message_size: 400_000 } }),
  make: ({ url, destination, timeoutMs }) => rabbitmq({ url, queue: destination, timeoutMs }),
  prepare: declare,
  unreadable: unreadable("amqp"),
  headers: "any",
  tooLargeBytes: 500_000,
});

async function declare({ url, destination }: Place): Promise<void> {
  const { Connection } = await import("rabbitmq-client");
  const connection = new Connection(url);
  await connection.queueDeclare({ queue: destination, durable: true });
  await connection.close();
}
