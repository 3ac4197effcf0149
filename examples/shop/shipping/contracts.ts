/** What the shipping department says. The shop imports this file alone. */
import { event } from "posthorn";
import { z } from "zod";

export const OrderShipped = event("OrderShipped", {
  topic: "parcels",
  schema: z.object({ orderId: z.uuid(), tracking: z.string() }),
  key: (parcel) => parcel.orderId,
});
