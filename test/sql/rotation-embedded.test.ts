/** The embedded database has one connection and no other sessions; its log rotates all the same. */
import { command, posthorn, type } from "posthorn";
import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openDatabase } from "../../src/databases/open.js";
import { rotate } from "../../src/store/segments.js";
import { decisions } from "../producer/stage.js";
import { createPglite } from "../support/pglite.js";

const DoWork = command("DoWork", { queue: "work", schema: type<{ n: number }>() });

test("on PGlite segments are truncated, and no message is lost", async () => {
  const pglite = await createPglite();
  const post = posthorn({ service: "embedded", database: pglite, logger: silentLogger });
  const handled: number[] = [];
  post.queue("work", { ...decisions, idempotency: "transaction" }).handle(DoWork, ({ n }) => void handled.push(n));
  await post.start();
  await pglite.query("update posthorn.retention set keep_ms = 0");
  const database = await openDatabase(pglite);
  const did = new Set<string | null>();
  for (let n = 1; n <= 20; n += 1) {
    await post.send(DoWork, { n });
    await post.untilIdle();
    for (let step = 0; step < 10; step += 1) did.add((await rotate(database)).did);
  }
  expect(handled.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  expect(did).toContain("truncated");
  const first = await pglite.query<{ first: number }>("select first_segment::int as first from posthorn.ring");
  expect(first.rows[0]?.first).toBeGreaterThan(8);
  await post.stop();
  await pglite.close();
}, 120_000);
