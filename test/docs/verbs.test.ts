/** The code of the guide about operating verbs does what the guide says. */
import { command, event, policies, posthorn, type } from "posthorn";
import { webhookIntake } from "posthorn/webhooks";
import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { createDatabase } from "../support/server.js";
import { endIntake, forget, goOn, mendAndRedrive, throwAway } from "./examples/verbs.js";
import { pagesIn } from "./pages.js";

const SendEmail = command("SendEmail", {
  queue: "email",
  schema: type<{ to: string; customer: string }>(),
  key: ({ customer }) => customer,
});

test("every block of TypeScript in the guide about operating verbs is from code that a test runs", () => {
  const [page] = pagesIn("docs/guides").filter(({ file }) => file.endsWith("verbs.md"));
  const code = page?.blocks.filter(({ language }) => language === "ts") ?? [];
  expect(code.length).toBeGreaterThan(2);
  expect(code.filter(({ mark }) => mark !== "from test/docs/examples/verbs.ts")).toEqual([]);
});

test("the programs of the guide about operating verbs do what the guide says", async () => {
  const database = await createDatabase();
  const post = posthorn({ service: "shop", database: database.url, migrate: "auto", logger: silentLogger });
  const sent: string[] = [];
  post.queue("email", policies.email).handle(SendEmail, async ({ to }) => {
    sent.push(to);
  });
  await post.start();
  await post.operate.pause("email", { by: "test" });
  const receipt = await post.send(SendEmail, { to: "ada@example.org", customer: "ada" });
  expect(await forget(post, "ada")).toBe(1);
  expect(await receipt.status()).toMatchObject({ state: "discarded", reason: "erased" });
  await post.sendMany(SendEmail, [
    { to: "a@example.org", customer: "a" },
    { to: "b@example.org", customer: "b" },
  ]);
  expect(await throwAway(post)).toBe("2 of 2, done");
  expect(await mendAndRedrive(post, "000000000000")).toBe(0);
  await goOn(post);
  expect(await post.operate.audit({ unfinished: true })).toEqual([]);
  expect(sent).toEqual([]);
  const before = posthorn({ service: "orders", database: database.url, logger: silentLogger });
  const into = [event("OrderPlaced", { topic: "orders", schema: type<object>() })];
  before.intake("orders-in", { from: webhookIntake({ verify: "none" }), into });
  await before.start();
  await before.stop();
  await endIntake(post);
  expect(await post.intakes()).toEqual([]);
  await post.stop();
  await database.drop();
});
