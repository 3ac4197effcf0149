import { mqtt, mqttFeatures } from "../../src/brokers/mqtt/index.js";
import { startAedes } from "./aedes.js";
import { brokerConformance } from "./conformance.js";
import { unreadable } from "./unreadable.js";

brokerConformance({
  name: "MQTT 3.1.1, the embedded broker",
  features: { ...mqttFeatures, mode: "structured" },
  modes: ["structured"],
  service: startAedes,
  make: ({ url, destination, timeoutMs }) =>
    mqtt({ url, topic: `conformance/${destination}`, version: "3.1.1", timeoutMs }),
  unreadable: unreadable("mqtt"),
  headers: "none",
  tellsUnsent: true,
  share: 0.2,
});
