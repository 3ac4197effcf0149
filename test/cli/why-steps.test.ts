/** What `posthorn why` says about the steps of a message, produced by real runs. */
import { command, type Policy, type Post, retry, type Sql, type } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { at, becomes, decisions, forever, fresh, instance, since, why } from "./asking.js";

/** A queue whose handler fails after its first step, or waits for ever after its second; `waits` tells when it does. */
async function shipping(policy: Partial<Policy<"handler">> = {}) {
  const queue = fresh("shipping");
  const Ship = command(`Ship${queue.replace(/\D/g, "")}`, { queue, schema: type<{ act: "wait" | "fail" }>() });
  const post: Post<Sql> = instance();
  const seen = { waits: false };
  post.queue(queue, { ...decisions, ...policy }).handle(Ship, async ({ act }, { step }) => {
    await step("charge", () => 1);
    if (act === "fail") throw new Error("the carrier does not answer");
    await step("parcel", () => 2);
    seen.waits = true;
    await forever();
  });
  await post.start();
  return { post, Ship, seen };
}

test("a message that waits for its next attempt or is dead says how many steps are done, and which was the last", async () => {
  const patient = await shipping();
  const waiting = await patient.post.send(patient.Ship, { act: "fail" });
  await becomes(patient.post, waiting.id, "retrying");
  expect(await why(waiting.id)).toMatch(
    new RegExp(`^second attempt ${at}, after Error: the carrier does not answer; 1 step is done, the last 'charge'$`),
  );
  const { post, Ship } = await shipping({ retry: retry.none });
  const { id } = await post.send(Ship, { act: "fail" });
  await becomes(post, id, "dead");
  expect(await why(id)).toMatch(
    new RegExp(
      `^dead since ${since} after 1 attempt: .*; redrive it with \`posthorn dead-letters redrive ${id}\`; 1 step is done, the last 'charge'$`,
    ),
  );
});

test("a message that runs says how many steps are done so far", async () => {
  const { post, Ship, seen } = await shipping();
  const { id } = await post.send(Ship, { act: "wait" });
  await eventually(() => seen.waits);
  expect(await why(id)).toMatch(
    new RegExp(`^runs since ${since} on worker .*, first attempt; 2 steps are done, the last 'parcel'$`),
  );
});
