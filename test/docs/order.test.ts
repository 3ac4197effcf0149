/** The example of docs/guides/order.md, run. */
import { expect, test } from "vitest";
import { command, days, minutes, posthorn, retry, seconds, type } from "../../src/index.js";
import { createDatabase } from "../support/server.js";

const Move = command("MoveStock", {
  queue: "stock",
  schema: type<{ sku: string; change: number }>(),
  key: ({ sku }) => sku,
});

test("the example of the guide about order handles each article's movements in order, also after a failure", async () => {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "guide", database: url, migrate: "auto" });
  const stock = post.queue("stock", {
    retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(10) }),
    idempotency: "transaction",
    ordering: { per: "key", whenDead: "park" },
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(5), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(1) },
  });
  try {
    const moved: string[] = [];
    let failures = 0;
    stock.handle(Move, ({ sku, change }) => {
      // Until the other article is through: it waits for nothing of this one.
      if (sku === "A1" && (failures === 0 || !moved.includes("B2 2"))) {
        failures += 1;
        throw new Error("no such shelf");
      }
      moved.push(`${sku} ${change}`);
    });
    await post.start();
    const receipts = await post.sendMany(Move, [
      { sku: "A1", change: 1 },
      { sku: "B2", change: 1 },
      { sku: "A1", change: 2 },
      { sku: "B2", change: 2 },
    ]);
    await Promise.all(receipts.map((receipt) => receipt.settled({ withinMs: 60_000 })));
    expect(moved.filter((one) => one.startsWith("A1"))).toEqual(["A1 1", "A1 2"]);
    expect(moved.filter((one) => one.startsWith("B2"))).toEqual(["B2 1", "B2 2"]);
    expect(moved.indexOf("B2 2")).toBeLessThan(moved.indexOf("A1 1"));
    expect(failures).toBeGreaterThan(0);
  } finally {
    await post.stop();
    await drop();
  }
});
