import { afterAll, beforeAll, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { command, policies, posthorn, retry, type } from "../../src/index.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

let place: TestDatabase;
beforeAll(async () => {
  place = await createDatabase();
});
afterAll(() => place.drop());

/** A queue in transaction mode whose handler ends its own connection that many times. */
async function cutting(queue: string, times: number) {
  const Work = command(`Cut${queue}`, { queue: queue.toLowerCase(), schema: type<object>() });
  const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const post = posthorn({ service: queue.toLowerCase(), database: place.url, migrate: "auto", logger: silent });
  const attempts: number[] = [];
  post
    .queue(queue.toLowerCase(), { ...policies.rollUp, retry: retry.none })
    .handle(Work, async (_payload, { tx, attempt }) => {
      attempts.push(attempt);
      if (attempts.length <= times) await tx.query("select pg_terminate_backend(pg_backend_pid())");
    });
  await post.start();
  const receipt = await post.send(Work, {});
  const { state } = await receipt.settled({ withinMs: 60_000 });
  await post.stop();
  return { state, attempts };
}

// An attempt was burnt: with retry.none a restart of a pooler, or an operator's pg_terminate_backend, made a dead letter.
test("a connection that is lost in the middle of a handler's statement burns no attempt", async () => {
  expect(await cutting("Once", 1)).toEqual({ state: "succeeded", attempts: [1, 1] });
});

test("a message whose statements end their connection each time fails in the end", async () => {
  const { state, attempts } = await cutting("Always", Number.POSITIVE_INFINITY);
  expect({ state, runs: attempts.length }).toEqual({ state: "dead", runs: limits.crashes });
});
