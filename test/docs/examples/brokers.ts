/** The code of docs/guides/brokers.md. */
import { hours } from "posthorn";
import { mqtt } from "posthorn/mqtt";

export const orders = (url: string) =>
  mqtt({
    url, // mqtts://shop:password@broker.example
    topic: ({ type }) => `shop/events/${type}`,
  });

export const shipments = (url: string) =>
  mqtt({
    url,
    topic: "shipping/events/+",
    sessionMs: hours(48),
  });
