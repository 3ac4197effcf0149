/** What stays at a broker when an intake is removed or renamed: Posthorn removes nothing there, since others may read by it. */
import type { Party } from "../brokers/broker.js";
import { readerName } from "../brokers/party.js";
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

/** What another name means where the reader at the broker is named after the intake; undefined elsewhere, since a group or a queue is named by whoever declares the intake. */
export function renamedAtBroker(broker: string, place: string, before: Party): string | undefined {
  const reader = readerName(before);
  const at = `At ${broker} ${oneLine(place, 200)}`;
  if (broker === "nats") {
    return (
      `${at} the consumer ${reader} stays, and a stream of interest or a work queue keeps messages for it. Without \`consumer\` the new name begins another one, ` +
      "at the start of the stream, and the inbox absorbs what it still knows: then remove the old one. To read on by the old one, name it as `consumer`, and change its description."
    );
  }
  if (broker !== "mqtt") return undefined;
  return (
    `${at} the session ${reader} stays, and goes on filling. Without \`clientId\` the new name begins another one, which is given what is sent from then on: ` +
    "what waits in the old one is left there. To go on with that, name it as `clientId`; else end it."
  );
}
