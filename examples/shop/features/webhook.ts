/** Telling a partner about orders: a webhook, signed as Standard Webhooks asks for. */
import { type OutputOf, seconds } from "posthorn";
import { Webhook } from "standardwebhooks";
import type { OrderPlaced } from "../contracts.js";
import type { Elsewhere } from "../post.js";
import { withPatience } from "./patience.js";

const patienceMs = seconds(5);

export interface Endpoint {
  readonly url: string;
  /** `whsec_…`, known to both sides alone. */
  readonly secret: string;
}

/** Handler mode: the effect is at the partner, who knows a repetition by its webhook-id, the same in every attempt. */
export function tellPartner({ url, secret }: Endpoint) {
  const signer = new Webhook(secret);
  return async (order: OutputOf<typeof OrderPlaced>, { signal, idempotencyKey, message }: Elsewhere): Promise<void> => {
    const { orderId, sku, cents } = order;
    const body = JSON.stringify({
      type: "order.placed",
      timestamp: message.publishedAt,
      data: { orderId, sku, cents },
    });
    const id = `msg_${idempotencyKey()}`;
    const now = new Date();
    const headers = {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": signer.sign(id, now, body),
    };
    await withPatience(patienceMs, signal, async (signal) => {
      const response = await fetch(url, { method: "POST", headers, body, signal });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`The partner answered ${response.status}.`);
    });
  };
}
