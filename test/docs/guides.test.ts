/** The code of the guides about time and dedupe does what the guides say. Their blocks are compared with it in excerpts.test.ts. */
import { days, hours, type Post, policies, posthorn, type Sql } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createPglite } from "../support/pglite.js";
import { charge, chargeAll, indexPage, sendDigest, syncCustomer, tellPrice } from "./examples/dedupe.js";
import { remindAt, remindLater, renderAll, sendCode } from "./examples/time.js";
import { pagesIn } from "./pages.js";

const pglite = await createPglite();
let post: Post<Sql>;
beforeAll(async () => {
  post = posthorn({ service: "guides", database: pglite });
  await post.migrate();
  await pglite.exec("create table orders (id text primary key)");
});
afterAll(async () => {
  await post.stop();
  await pglite.close();
});

const deferred = async (id: string) =>
  (
    await pglite.query<{ payload: object; due_in: number; lasts: number | null; priority: number }>(
      `select payload, extract(epoch from due_at - clock_timestamp())::float8 * 1000 as due_in, priority,
       extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as lasts from posthorn.deferred where posthorn.public_id(message, nonce) = $1`,
      [id],
    )
  ).rows[0];

test("every block of TypeScript in the guides about time and dedupe is from code that a test runs", () => {
  const pages = pagesIn("docs/guides").filter(({ file }) => /(time|dedupe)\.md$/.test(file));
  expect(pages).toHaveLength(2);
  for (const { file, blocks } of pages) {
    const code = blocks.filter(({ language }) => language === "ts");
    expect([
      file,
      code.length > 2,
      code.filter(({ mark }) => mark?.startsWith("from test/docs/examples/") !== true),
    ]).toEqual([file, true, []]);
  }
});

test("the guide about time: delays, times, expiry and priority end in the database as it says", async () => {
  const { receipt, state, dueAt } = await remindLater(post, "1");
  expect(state).toBe("scheduled");
  expect(dueAt?.getTime()).toBeGreaterThan(Date.now() + days(2) - 60_000);
  expect((await deferred(receipt.id))?.due_in).toBeLessThanOrEqual(days(2));
  const at = new Date(Date.now() + hours(3));
  const reminded = await remindAt(post, "2", at);
  expect((await reminded.status()).dueAt).toEqual(at);
  expect((await deferred(reminded.id))?.lasts).toBeGreaterThan(days(29));
  expect(await (await sendCode(post, "ada@example.org", "1234")).status()).toMatchObject({ state: "queued" });
  const [report] = await renderAll(post, ["2026-01", "2026-02"]);
  expect(await deferred(report?.id ?? "")).toMatchObject({ priority: -2, payload: { month: "2026-01" } });
});

test("the guide about dedupe: each mode does with a second request what the guide says", async () => {
  const id = async (sent: Promise<{ readonly id: string }>) => (await sent).id;
  const first = await id(charge(post, "1"));
  expect(await id(charge(post, "1"))).toBe(first);
  const charged = await chargeAll(post, [{ orderId: "1" }, { orderId: "2" }, { orderId: "2" }]);
  expect(charged[0]?.id).toBe(first);
  expect(charged[1]?.id).toBe(charged[2]?.id);
  const told = [
    await id(tellPrice(post, "A1", 1)),
    await id(tellPrice(post, "A1", 2)),
    await id(tellPrice(post, "A1", 3)),
  ];
  expect(told[0]).not.toBe(told[1]);
  expect(told[1]).toBe(told[2]);
  expect((await deferred(told[1] ?? ""))?.payload).toEqual({ sku: "A1", cents: 3 });
  expect(await id(indexPage(post, "/"))).toBe(await id(indexPage(post, "/")));
  await sendDigest(post, "ada", "one");
  expect((await deferred(await id(sendDigest(post, "ada", "two"))))?.payload).toEqual({ to: "ada", text: "two" });
  expect(await id(syncCustomer(post, "ada"))).toBe(await id(syncCustomer(post, "ada")));
});

test("the window of the guide is long enough for every policy to choose from", async () => {
  for (const [name, policy] of Object.entries(policies)) {
    const { rows } = await pglite.query<{ ms: number }>("select posthorn.longest_redelivery($1::json) as ms", [
      JSON.stringify(policy),
    ]);
    expect([name, rows[0]?.ms]).toEqual([name, expect.any(Number)]);
    expect(rows[0]?.ms).toBeLessThan(days(7));
  }
});
