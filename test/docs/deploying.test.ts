/** The code of the guide about deploying does what the guide says. Its blocks are compared with it in excerpts.test.ts. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { behindPooler, beside, SendEmail, serveProbes, startHere } from "./examples/deploying.js";
import { readPage } from "./pages.js";

let place: TestDatabase;
beforeAll(async () => {
  place = await createDatabase({ empty: true });
});
afterAll(() => place.drop());

test("every block of TypeScript in the guide about deploying is from code that this test runs", () => {
  const code = readPage("docs/guides/deploying.md").blocks.filter(({ language }) => language === "ts");
  expect(code.length).toBeGreaterThanOrEqual(4);
  expect(code.filter(({ mark }) => mark !== "from test/docs/examples/deploying.ts")).toEqual([]);
});

test("an instance that polls works without a pooler as well, stops by signals, and answers probes", async () => {
  const post = behindPooler(place.url);
  await post.migrate();
  const before = process.listenerCount("SIGTERM");
  await startHere(post);
  expect(process.listenerCount("SIGTERM")).toBe(before + 1);
  expect(await (await post.send(SendEmail, { to: "ada" })).settled({ withinMs: 60_000 })).toMatchObject({
    state: "succeeded",
  });
  const server = serveProbes(post);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const ready = await fetch(`http://127.0.0.1:${port}/ready`);
  expect([ready.status, await ready.json()]).toEqual([200, { status: "ready", service: "shop", working: true }]);
  server.close();
  await post.stop();
});

test("two installations in one database know nothing of each other", async () => {
  const { shop, crm } = beside(place.url);
  await shop.migrate();
  await crm.migrate();
  await shop.send(SendEmail, { to: "ada" });
  expect(await crm.backlog()).toEqual([]);
  await shop.stop();
  await crm.stop();
});
