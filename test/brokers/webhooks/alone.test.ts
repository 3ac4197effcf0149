/** What a sender of webhooks says of a receiver that falls over single messages. */
import { expect, test } from "vitest";
import { message, never, open, receiving } from "./places.js";

test("webhook() posts the others where the receiver falls over one of them, and says what was about that one alone", async () => {
  const { url, asked } = await receiving(({ headers }) => {
    const id = String(headers["webhook-id"]);
    return id === "hangs" ? new Promise<number>(() => undefined) : Number(id.split("-")[1]) || 204;
  });
  const sender = await open(url, { connections: 1, timeoutMs: 2_000 });
  const ids = ["a", "x-502", "x-504", "b", "x-503", "hangs", "c", "x-500"];
  const sent = await sender.send(
    ids.map((id) => message(id)),
    never,
  );
  expect(asked).toHaveLength(ids.length);
  expect(sent.map((one) => [one.kind, "alone" in one])).toEqual(
    ids.map((id) =>
      id.length === 1 ? ["acknowledged", false] : id === "x-500" ? ["failed", false] : ["unavailable", true],
    ),
  );
  // Who throttles, or asks for a pause, speaks of all; and so does a connection that was never made.
  const others = await sender.send([message("x-429"), message("d")], never);
  expect(others.map((one) => [one.kind, "alone" in one])).toEqual(Array(2).fill(["unavailable", false]));
});
