/** The code of docs/guides/brokers/rabbitmq.md. */
import { rabbitmq } from "posthorn/rabbitmq";

const url = "amqp://shop:secret@rabbit.internal:5672/shop";

export const out = rabbitmq({
  url,
  exchange: "facts",
  routingKey: (event) => event.type,
});

export const inward = rabbitmq({ url, queue: "shipping" });
