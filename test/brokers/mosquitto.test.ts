import { mqtt, mqttFeatures } from "../../src/brokers/mqtt/index.js";
import { startService } from "../support/services.js";
import { brokerConformance, type Place } from "./conformance.js";
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
  tooLargeBytes: 500_000,
});
