/** What the tests of the shop do and look at again and again. */
import { expect } from "vitest";
import { eventually } from "../support/eventually.js";
import type { Json, Shop } from "./shop.js";

export const wish = { sku: "HORN-1", email: "guest@one.example", postalCode: "10115" };

/** Places an order and returns its id. */
export async function order(shop: Shop, changes: Partial<typeof wish> = {}): Promise<string> {
  const { status, headers, json } = await shop.call("POST", "/orders", { ...wish, ...changes });
  expect({ status, location: headers.get("location") }).toEqual({ status: 201, location: `/orders/${json.id}` });
  return json.id;
}

export async function turn(shop: Shop, name: string, on: boolean): Promise<void> {
  expect((await shop.call("PUT", `/troubles/${name}`, { on })).json).toMatchObject({ [name]: on });
}

/** What became of the messages of an order: "OrderPlaced confirmations succeeded". */
export async function becameOf(shop: Shop, id: string): Promise<readonly string[]> {
  const { messages } = await shop.get(`/orders/${id}`);
  return messages
    .flatMap(({ name, receivers }: Json) => receivers.map((one: Json) => `${name} ${one.name} ${one.state}`))
    .sort();
}

export const allSucceeded = [
  "CapturePayment payments succeeded",
  "OrderPlaced confirmations succeeded",
  "OrderPlaced partner succeeded",
  "OrderPlaced sales-figures succeeded",
  "OrderPlaced search-index succeeded",
  "OrderPlaced shipping succeeded",
  "PaymentCaptured ledger succeeded",
  "PickPiece warehouse succeeded",
  "SendEmail email succeeded",
];

/** Effects that each order has. */
export const effectsOfOrders = [
  "mails",
  "charges",
  "webhooks",
  "documents",
  "shipments",
  "pieces",
  "bookings",
  "figures",
];

/**
 * Waits until so many orders have each of their effects and nothing is on its way any more; returns the status. Nothing may be lost or
 * repeated, not even on the way there.
 */
export async function settled(shop: Shop, orders: number, withinMs = 60_000): Promise<Json> {
  const status = await eventually(
    async () => {
      const now = await shop.get("/status");
      expect(wrong(now), "lost or repeated").toEqual([]);
      expect(now.orders).toBe(orders);
      expect(now.outOfTurn).toBe(0);
      expect(open(now)).toEqual([]);
      expect(missing(now)).toEqual([]);
      return now;
    },
    { withinMs, everyMs: 100 },
  );
  return status;
}

/** "charges lost 1" */
export function wrong({ effects }: Json): readonly string[] {
  return effects.flatMap(({ name, lost, repeated }: Json) => [
    ...(lost > 0 ? [`${name} lost ${lost}`] : []),
    ...(repeated > 0 ? [`${name} repeated ${repeated}`] : []),
  ]);
}

export function effect({ effects }: Json, name: string): Json {
  return effects.find((one: Json) => one.name === name);
}

export function station({ stations }: Json, name: string): Json {
  return stations.find((one: Json) => one.name === name);
}

function open({ stations }: Json): readonly string[] {
  return stations.flatMap(({ name, said, done, dead }: Json) =>
    said === done ? [] : [`${name} ${done} of ${said}, ${dead} dead`],
  );
}

function missing({ effects, orders }: Json): readonly string[] {
  return effects.flatMap(({ name, there }: Json) =>
    !effectsOfOrders.includes(name) || there === orders ? [] : [`${name} ${there}`],
  );
}
