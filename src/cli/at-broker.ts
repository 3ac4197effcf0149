/** What stays at a broker when an intake is removed: Posthorn removes nothing there, since others may read by it. */
import { oneLine } from "./io.js";

const stays: ReadonlyMap<string, string> = new Map([
  ["rabbitmq", "the queue stays and goes on filling: remove it, or its bindings"],
  ["sqs", "the queue stays and goes on filling: remove it, or end what sends to it"],
  ["nats", "the durable consumer stays, and a stream of interest or a work queue keeps messages for it: remove it"],
  ["kafka", "the consumer group stays until its offsets expire: remove it"],
  ["redis", "the consumer group stays, with what was given to it and not acknowledged: remove it"],
  ["mqtt", "the session stays for as long as the broker keeps it, and goes on filling until then: end it"],
]);

/** Undefined for a broker that keeps nothing, and for one that is not known. */
export function staysAtBroker(broker: string, place: string): string | undefined {
  const what = stays.get(broker);
  return what === undefined ? undefined : `At ${broker} ${oneLine(place, 200)} ${what}.`;
}
