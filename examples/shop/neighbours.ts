/**
 * The ways to other services: each order goes out by a relay, and what the shipping department answers comes in by an intake. The fact is in the log
 * with the order, in one commit; when the broker is away it waits there, and goes out in order when the broker is back.
 */
import { type Broker, policies, type Relay, type RelayOptions } from "posthorn";
import { mqtt } from "posthorn/mqtt";
import { webhook } from "posthorn/webhooks";
import { OrderPlaced } from "./contracts.js";
import type { Troubles } from "./demo/troubles.js";
import { noteParcel } from "./features/parcels.js";
import { post, soon, tracking } from "./post.js";
import { OrderShipped } from "./shipping/contracts.js";
import { shippingWay, shopWay, wayOf } from "./ways.js";

export interface Endpoint {
  readonly url: string;
  /** `whsec_…`, known to both sides alone. */
  readonly secret: string;
}

/** Those of this process. */
export const relays: Relay[] = [];

function relay(name: string, options: RelayOptions): void {
  relays.push(post.relay(name, options));
}

/**
 * The partner insures the parcels, so it may know who gets them: each order is posted as it was said, signed as Standard Webhooks asks for. It knows a
 * repetition by the webhook-id, the same in every attempt.
 */
export function meetPartner({ url, secret }: Endpoint, troubles: Troubles): void {
  relay("partner", {
    from: { topic: OrderPlaced.channel },
    // The partner of this example is on this machine. Addresses inside of a network are refused unless they are named.
    to: troubles.acknowledged(webhook({ url, secrets: [secret], allowPrivate: ["127.0.0.1"], timeoutMs: 5_000 })),
    ...policies.webhook,
    retry: soon,
  });
}

/** `broker` is the address of the broker that the shipping department listens to as well. */
export function meetShipping(broker: string, troubles: Troubles): void {
  relay("to-shipping", {
    from: { topic: OrderPlaced.channel },
    to: troubles.acknowledged(wayOf(broker, shopWay)),
    ...policies.relay,
  });
  post.intake("from-shipping", { from: wayOf(broker, shippingWay), into: [OrderShipped] });
  tracking.on(OrderShipped, troubles.delivered(noteParcel));
}

/** A broker of yours, by its address, gets every order as well. Its topic, queue or stream must be there. */
export async function meetBroker(url: string): Promise<void> {
  relay("to-broker", { from: { topic: OrderPlaced.channel }, to: await brokerAt(url), ...policies.relay });
}

async function brokerAt(url: string): Promise<Broker> {
  const scheme = url.slice(0, url.indexOf(":"));
  switch (scheme) {
    case "mqtt":
    case "mqtts":
      return mqtt({ url, topic: shopWay });
    case "amqp":
    case "amqps":
      return (await import("posthorn/rabbitmq")).rabbitmq({ url, queue: "shop.orders" });
    case "nats":
    case "tls":
      return (await import("posthorn/nats")).nats({ url, stream: "SHOP", subject: "shop.orders" });
    case "redis":
    case "rediss":
      return (await import("posthorn/redis")).redis({ url, stream: "shop.orders" });
    case "kafka":
      return (await import("posthorn/kafka")).kafka({ url, topic: "shop.orders" });
    default:
      throw new Error(`BROKER_URL must begin with mqtt, amqp, nats, redis or kafka, not with "${scheme}".`);
  }
}
