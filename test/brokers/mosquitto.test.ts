import { expect, test } from "vitest";
import type { Outgoing, Sender } from "../../src/brokers/broker.js";
import { type MqttOptions, mqtt, mqttFeatures } from "../../src/brokers/mqtt/index.js";
import { makeCertificate } from "../support/certificate.js";
import { startService } from "../support/services.js";
import { brokerConformance, type Place } from "./conformance.js";
import { brokerDoors } from "./doors.js";
import { eventOf, messages, never } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

const service = () =>
  startService("mosquitto", { user: "posthorn", password: "pa:ss w%rd", settings: { max_packet_size: 400_000 } });
const options = ({ url, destination, timeoutMs }: Place) => ({ url, topic: `conformance/${destination}`, timeoutMs });

brokerConformance({
  name: "MQTT 5, Mosquitto",
  features: mqttFeatures,
  service,
  make: (place) => mqtt(options(place)),
  unreadable: unreadable("mqtt"),
  headers: "one line",
  tellsUnsent: true,
  tooLargeBytes: 500_000,
});

brokerConformance({
  name: "MQTT 3.1.1, Mosquitto",
  features: { ...mqttFeatures, mode: "structured" },
  modes: ["structured"],
  service,
  make: (place) => mqtt({ ...options(place), version: "3.1.1", maxPacketBytes: 400_000 }),
  unreadable: unreadable("mqtt"),
  headers: "none",
  tellsUnsent: true,
  tooLargeBytes: 500_000,
});

twoServices({
  name: "MQTT, Mosquitto",
  service: () => startService("mosquitto"),
  way: (url, topic) => ({ kind: "mqtt", options: { url, topic: `services/${topic}`, timeoutMs: 10_000 } }),
});

brokerDoors({
  name: "MQTT, Mosquitto",
  schemes: ["mqtt", "mqtts"],
  certificate: makeCertificate(),
  plain: (options) => startService("mosquitto", { user: "posthorn", password: "pa:ss w%rd", ...options }),
  tls: async (tls) => (await startService("mosquitto", { user: "posthorn", password: "pa:ss w%rd", tls })).url,
  make: (url, tls) => mqtt({ url, topic: "door", ...(tls && { tls }) }),
});

const options5 = (url: string, over: Partial<MqttOptions> = {}) => ({ url, topic: "conformance/own", ...over });
const open = (name: string) => ({ name, service: "shop", signal: never(), onTrouble: () => undefined });

/** As a relay does it: what is unavailable is sent again, with what comes after it. */
async function untilAnswered(sender: Sender, all: readonly Outgoing[]): Promise<ReadonlyMap<string, string>> {
  const answers = new Map<string, string>();
  for (let rounds = 0; rounds < 10 && answers.size < all.length; rounds += 1) {
    const left = all.filter(({ event }) => !answers.has(event.id));
    const sent = await sender.send(left, never());
    for (const [i, { kind }] of sent.entries()) if (kind !== "unavailable") answers.set(left[i]?.event.id ?? "", kind);
  }
  return answers;
}

test("a limit that the broker does not announce: the message is found for which the connection is dropped", async () => {
  // With this setting it answers with a reason that MQTT does not allow there, for which the client gives up the connection.
  const own = await startService("mosquitto", { settings: { message_size_limit: 1_000 } });
  const sender = await mqtt(options5(own.url)).openSender(open("limit"));
  const large = { event: eventOf(5, { data: JSON.stringify("x".repeat(2_000)) }), key: null };
  const all = [...messages(5), large, ...messages(20, { from: 6 })];
  const answers = await untilAnswered(sender, all);
  expect([...answers].filter(([, kind]) => kind !== "acknowledged")).toEqual([["message-5", "failed"]]);
  expect(answers.size).toBe(all.length);
  await sender.close();
  await own.remove();
});

test("two receivers with one name: the broker closes the older, and the younger goes on", async () => {
  const own = await startService("mosquitto");
  const broker = mqtt(options5(own.url));
  const first = await broker.openReceiver(open("same"));
  const second = await broker.openReceiver(open("same"));
  await expect(first.receive({ max: 1, waitMs: 60_000, signal: never() })).rejects.toThrow("is lost");
  const sender = await broker.openSender(open("other"));
  await sender.send(messages(1), never());
  expect(await second.receive({ max: 1, waitMs: 60_000, signal: never() })).toHaveLength(1);
  for (const one of [sender, first, second]) await one.close();
  await own.remove();
});
