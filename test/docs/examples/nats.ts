/** The code of docs/guides/brokers/nats.md. */
import { nats } from "posthorn/nats";

const url = "nats://shop:secret@nats.internal:4222";

export const out = nats({
  url,
  stream: "FACTS",
  subject: (event) => `facts.${event.type}`,
});

export const inward = nats({ url, stream: "FACTS", subject: "facts.OrderPlaced", consumer: "shipping" });
