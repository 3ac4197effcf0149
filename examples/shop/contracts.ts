/** What is said in the shop. No handler and no policy: another service could import this file alone. */
import { command, event, query, seconds } from "posthorn";
import { z } from "zod";

export const Sku = z.string().regex(/^[A-Z]{2,8}-[0-9]{1,4}$/, "is not an article number such as HORN-1");
export const Email = z
  .email("is not an e-mail address")
  .max(254, "is longer than 254 characters")
  .transform((address) => address.toLowerCase());
export const PostalCode = z.string().regex(/^[0-9]{5}$/, "is not a postal code of five digits");

/* "Tell me, now": never stored, answered within the deadline or not at all. */

export const PriceOf = query("PriceOf", {
  request: z.object({ sku: Sku }),
  response: z.object({ cents: z.int() }),
  deadlineMs: seconds(2),
});

/** A password belongs into a query and never into a message: messages are kept. */
export const CheckPassword = query("CheckPassword", {
  request: z.object({ email: z.string(), password: z.string() }),
  response: z.object({ userId: z.uuid().nullable() }),
  deadlineMs: seconds(5),
});

export const MaySeeOrder = query("MaySeeOrder", {
  request: z.object({ orderId: z.uuid(), userId: z.uuid().nullable(), guestId: z.uuid() }),
  response: z.object({ allowed: z.boolean() }),
  deadlineMs: seconds(5),
});

/* "This happened": any number of subscriptions. */

export const UserRegistered = event("UserRegistered", {
  topic: "users",
  schema: z.object({ userId: z.uuid(), email: Email }),
  key: (user) => user.userId,
});

export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: z.object({
    orderId: z.uuid(),
    sku: Sku,
    article: z.string(),
    cents: z.int(),
    email: Email,
    postalCode: PostalCode,
  }),
  key: (order) => order.orderId,
});

export const PaymentCaptured = event("PaymentCaptured", {
  topic: "payments",
  schema: z.object({ orderId: z.uuid(), chargeId: z.string(), cents: z.int() }),
  key: (payment) => payment.orderId,
});

/* "Please do this": one queue handles it. */

export const SendEmail = command("SendEmail", {
  queue: "email",
  /** `about` is the order or user that the mail is about. */
  schema: z.object({ to: Email, subject: z.string(), text: z.string(), about: z.uuid() }),
});

export const CapturePayment = command("CapturePayment", {
  queue: "payments",
  schema: z.object({ orderId: z.uuid(), cents: z.int() }),
});

/** Its key is the article: pieces are given out in the order in which they were ordered. */
export const PickPiece = command("PickPiece", {
  queue: "warehouse",
  schema: z.object({ orderId: z.uuid(), sku: Sku }),
  key: (pick) => pick.sku,
});

export const ImportOrders = command("ImportOrders", {
  queue: "imports",
  schema: z.object({ importId: z.uuid() }),
});

/** Asked for by the clock: see the schedule in post.ts. */
export const CloseBooks = command("CloseBooks", { queue: "reports", schema: z.object({}) });

export const DeliverReport = command("DeliverReport", {
  queue: "reports",
  schema: z.object({ reportId: z.uuid() }),
});

/** Takes a while, and somebody looks forward to it: so it has a result. */
export const SurveyRegions = command("SurveyRegions", {
  queue: "surveys",
  schema: z.object({}),
  result: z.object({
    orders: z.int(),
    regions: z.array(z.object({ region: z.string(), orders: z.int(), cents: z.int() })),
  }),
});
