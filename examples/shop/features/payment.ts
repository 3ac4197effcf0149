/** Money: asking the payment service for it. */
import { type OutputOf, seconds } from "posthorn";
import { z } from "zod";
import { type CapturePayment, PaymentCaptured } from "../contracts.js";
import type { Elsewhere } from "../post.js";
import { withPatience } from "./patience.js";

/** A service that is silent for longer is asked again, later, with the same key. */
const patienceMs = seconds(2);

const Charge = z.object({ chargeId: z.string(), cents: z.int() });

/**
 * Handler mode: whether a request without an answer took the money is not known here. The key is the same in every attempt, so the
 * service charges once and answers a repetition from its records. `PaymentCaptured` is written with the settlement, once.
 */
export function capturePayment(serviceUrl: string) {
  return async (payment: OutputOf<typeof CapturePayment>, context: Elsewhere): Promise<void> => {
    const { orderId, cents } = payment;
    const { idempotencyKey, publish } = context;
    const charge = await withPatience(patienceMs, context.signal, async (signal) => {
      const response = await fetch(new URL("/charges", serviceUrl), {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": idempotencyKey("charge") },
        body: JSON.stringify({ orderId, cents }),
        signal,
      });
      if (!response.ok) throw new Error(`The payment service answered ${response.status}: ${await response.text()}`);
      return Charge.parse(await response.json());
    });
    publish(PaymentCaptured, { orderId, ...charge });
  };
}
