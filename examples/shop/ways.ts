/** Where the two services meet: topics of the broker. */
import type { Broker } from "posthorn";
import { mqtt } from "posthorn/mqtt";

export const shopWay = "shop/orders";
export const shippingWay = "shipping/parcels";

/** The broker of the example speaks MQTT 3.1.1. */
export function wayOf(url: string, topic: string): Broker {
  return mqtt({ url, topic, version: "3.1.1" });
}
