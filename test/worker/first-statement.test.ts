import pg from "pg";
import { command, type Policy, type Post, posthorn, Reject, retry, type } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const Cut = command("Cut", { queue: "first", schema: type<{ readonly n: number }>() });
const Odd = command("Odd", { queue: "first", schema: type<{ readonly n: number }>() });
const policy = {
  retry: retry.fixed({ attempts: 1, delayMs: 1 }),
  idempotency: "transaction",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 60_000 },
  alerts: { oldestAgeMs: 60_000, backlog: 1_000, deadLetters: 1_000, noWorkerMs: 60_000 },
} satisfies Policy;

const place = await createDatabase();
const pool = new pg.Pool({ connectionString: place.url, max: 4 });
pool.on("error", () => {});
let post: Post<pg.PoolClient>;
let cuts = 0;

beforeAll(async () => {
  post = posthorn({ service: "first", database: pool, migrate: "auto", logger: silentLogger }) as typeof post;
  post
    .queue("first", policy)
    .handle(Cut, async (_, { tx }) => {
      cuts += 1;
      const slow = tx.query("select pg_sleep($1)", [60]);
      // As when the server kills the process of a statement: nothing is said any more.
      const { connection } = tx as pg.PoolClient & { connection: pg.Connection };
      connection.stream.destroy();
      await slow;
    })
    .handle(Odd, async (_, { tx }) => {
      await tx.query("select $1::json", [{ n: 1n }]).catch(() => undefined);
      throw new Reject("it has a number that is too large");
    });
  await post.start();
});
afterAll(async () => {
  await post.stop();
  await pool.end();
  await place.drop();
});

async function deadLetterOf(contract: string): Promise<string> {
  return eventually(async () => {
    const { rows } = await pool.query<{ text: string }>(
      "select row_to_json(d)::text as text from posthorn.dead_letter d join posthorn.contract c on c.id = d.contract where c.name = $1",
      [contract],
    );
    return rows[0]?.text;
  });
}

test("a message whose first statement ends the connection each time becomes a dead letter, after as many crashes as any", async () => {
  await post.send(Cut, { n: 1 });
  await deadLetterOf("Cut");
  expect(cuts).toBe(limits.crashes);
});

test("what a handler decides about a first statement that could not be written is done", async () => {
  await post.send(Odd, { n: 1 });
  expect(await deadLetterOf("Odd")).toContain("it has a number that is too large");
});
