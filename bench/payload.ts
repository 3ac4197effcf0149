/** The message of all rows: five fields, about 200 bytes as JSON, checked at both ends. */
import { command } from "posthorn";
import { z } from "zod";

export const Work = command("DoWork", {
  queue: "work",
  schema: z.object({ id: z.string(), to: z.string(), cents: z.number(), text: z.string(), rush: z.boolean() }),
});

export function payload(i: number) {
  return { id: `order-${i}`, to: "somebody@example.org", cents: i, text: "x".repeat(110), rush: i % 2 === 0 };
}

export const payloads = Array.from({ length: 1_000 }, (_, i) => payload(i));
export const json = JSON.stringify(payload(1));
