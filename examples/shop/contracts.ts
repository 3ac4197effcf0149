/** What is said in the shop. No handler and no policy: another service could import this file alone. */
import { command, event, query, seconds } from "posthorn";
import { z } from "zod";

export const Sku = z.string().regex(/^[A-Z]{2,8}-[0-9]{1,4}$/, "is not an article number such as HORN-1");
export const Email = z.email("is not an e-mail address").max(254, "is longer than 254 characters");

/** "Tell me, now." */
export const PriceOf = query("PriceOf", {
  request: z.object({ sku: Sku }),
  response: z.object({ cents: z.number().int() }),
  deadlineMs: seconds(2),
});

/** "This happened." */
export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: z.object({ orderId: z.uuid(), article: z.string(), cents: z.number().int(), email: Email }),
  key: (order) => order.orderId,
});

/** "Please do this." */
export const SendEmail = command("SendEmail", {
  queue: "email",
  schema: z.object({ to: Email, subject: z.string(), text: z.string() }),
});
