import type { BrokerFeatures } from "../broker.js";

/** MQTT 5. What it is with 3.1.1, where messages have no properties, differs in the mode. */
export const mqttFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  // Of one topic, by one client, at one QoS.
  order: "destination",
  deduplicates: false,
  // Topics are not made: whatever is published to exists.
  checksDestination: false,
  // A packet has a number that is given again once it is acknowledged.
  stablePosition: false,
  mode: "binary",
};
