/** The message of all rows: five fields, 200 bytes as JSON, checked at both ends. */
import { command, event } from "posthorn";
import { z } from "zod";

export const workSchema = z.object({
  id: z.string(),
  to: z.string(),
  cents: z.number(),
  text: z.string(),
  rush: z.boolean(),
});

export const Work = command("DoWork", { queue: "work", schema: workSchema });
/** The same as a fact, for rows with several readers. */
export const WorkDone = event("WorkDone", { topic: "work-done", schema: workSchema });
/** The same with a key, for rows that keep order: `to` is the key. */
export const OrderedWork = command("DoInOrder", { queue: "in-order", schema: workSchema, key: ({ to }) => to });

export const payloadBytes = 200;

/** `cents` is free for a row that needs a number to travel. */
export function payload(i: number, cents = i) {
  const fields = { id: `order-${i}`, to: "somebody@example.org", cents, text: "", rush: i % 2 === 0 };
  return { ...fields, text: "x".repeat(payloadBytes - JSON.stringify(fields).length) };
}

export const payloads = Array.from({ length: 1_000 }, (_, i) => payload(i));
export const json = JSON.stringify(payload(1));
/** A thousand of them as one JSON list. */
export const listJson = JSON.stringify(payloads);
