/**
 * Goal: what operators do to many messages at once is asked for, done in pages, done once, and can be told afterwards.
 * Method: dead letters of real failures on a real server; the functions of the store from two sessions at once.
 */

import { Client } from "pg";
import { command, type Post, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { discardLetters } from "../../src/cli/commands/letters.js";
import { parseLine } from "../../src/cli/parse.js";
import type { Executor } from "../../src/core/database.js";
import { silentLogger } from "../../src/core/logger.js";
import { countLetters, discard, redrive } from "../../src/store/operate.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { posthornCommand } from "./command.js";

const SendEmail = command("SendEmail", { queue: "email", schema: type<{ n: number }>() });
const SendSms = command("SendSms", { queue: "email", schema: type<{ n: number }>() });

let database: TestDatabase;
let eye: Client;
let post: Post<Sql>;

beforeAll(async () => {
  database = await createDatabase();
  eye = new Client({ connectionString: database.url });
  await eye.connect();
  post = posthorn({ service: "shop", database: database.url, migrate: "auto", logger: silentLogger });
  const queue = post.queue("email", {
    retry: retry.none,
    idempotency: "handler",
    ordering: "none",
    visibilityTimeoutMs: 60_000,
    deadLetter: { keepMs: 86_400_000 },
    alerts: { oldestAgeMs: 600_000, backlog: 1_000_000, deadLetters: 1_000_000, noWorkerMs: 600_000 },
    concurrency: 500,
  });
  for (const contract of [SendEmail, SendSms]) queue.handle(contract, () => Promise.reject(new Error("no")));
  await post.start();
});
afterAll(async () => {
  await post.stop({ graceMs: 0 });
  await eye.end();
  await database.drop();
});

const cli = (...args: readonly string[]) => posthornCommand([...args, "--database", database.url]);
const count = async (table: string): Promise<number> =>
  Number((await eye.query<{ n: string }>(`select count(*) as n from posthorn.${table}`)).rows[0]?.n);

async function kill(contract: typeof SendEmail | typeof SendSms, messages: number): Promise<void> {
  const before = await count("dead_letter");
  await post.sendMany(
    contract as typeof SendEmail,
    Array.from({ length: messages }, (_, n) => ({ n })),
  );
  await eventually(async () => (await count("dead_letter")) === before + messages);
}

test("all dead letters are redriven in pages with a counter, those that die again meanwhile are not taken again, and only on --yes", async () => {
  await kill(SendEmail, 1_204);
  const unsure = await cli("dead-letters", "redrive", "--all");
  expect(unsure).toMatchObject({ code: 2, out: "" });
  expect(unsure.err).toMatch(
    /This would redrive 1,204 dead letters, and nobody can be asked here\. Pass --yes.*PH_CONFIRMATION_MISSING/,
  );
  expect(await count("dead_letter")).toBe(1_204);
  // The handler still fails: every one of them dies again.
  const done = await cli("dead-letters", "redrive", "--all", "--yes");
  expect(done).toMatchObject({ code: 0, out: "redriven: 1,204 dead letters\n" });
  expect(done.err).toMatch(
    /^Operation \d+; if it is interrupted: posthorn audit continue \d+\n(.*\n)*redriven 1,204 of 1,204\n$/,
  );
  await eventually(async () => (await count("dead_letter")) === 1_204);
  const { rows } = await eye.query(
    "select distinct attempts, json_array_length(history) as entries from posthorn.dead_letter",
  );
  expect(rows).toEqual([{ attempts: 1, entries: 3 }]);
});

test("a redrive of all takes nothing that died after it was counted", async () => {
  const executor: Executor = { query: async (text, params) => eye.query(text, [...(params ?? [])]) as never };
  const filter = { list: "dead-letters", contract: "SendSms" } as const;
  await kill(SendSms, 1);
  const { count: counted, upto } = await countLetters(executor, filter);
  expect(counted).toBe(1);
  await kill(SendSms, 1);
  expect(await discard(executor, { ...filter, upto: upto ?? "" }, "ann", "counted", 10)).toHaveLength(1);
  expect(await redrive(executor, { ...filter, upto: upto ?? "" }, "ann", 10)).toEqual([]);
  expect(await discard(executor, filter, "ann", "the rest", 10)).toHaveLength(1);
  await eye.query("delete from posthorn.discarded");
});

test("--all takes only what the other options leave, and an unknown name is refused before anything is changed", async () => {
  const before = await count("dead_letter");
  await kill(SendSms, 3);
  const unknown = await cli("dead-letters", "discard", "--all", "--yes", "--reason", "x", "--contract", "SendFax");
  expect(unknown).toMatchObject({ code: 2, out: "" });
  expect(unknown.err).toMatch(/No contract is called "SendFax"\. .*Known are: .*SendSms/);
  const done = await cli(
    "dead-letters",
    "discard",
    "--all",
    "--yes",
    "--reason",
    "no provider",
    "--contract",
    "SendSms",
    "--json",
  );
  expect(done).toMatchObject({ code: 0, err: "" });
  expect(JSON.parse(done.out)).toEqual({ discarded: 3, operation: expect.any(String) });
  expect(await count("dead_letter")).toBe(before);
  const { rows } = await eye.query("select distinct reason, list from posthorn.discarded");
  expect(rows).toEqual([{ reason: "no provider", list: "dead-letters" }]);
  const nothing = await cli("dead-letters", "redrive", "--all", "--yes", "--contract", "SendSms");
  expect(nothing).toMatchObject({ code: 0, out: "redriven: 0 dead letters\n" });
});

test("whoever sits at a terminal is asked before many are changed, and anything but yes changes nothing", async () => {
  await kill(SendSms, 2);
  const line = parseLine([
    ...["dead-letters", "discard", "--all", "--contract", "SendSms", "--reason", "x"],
    ...["--database", database.url],
  ]);
  const asked: string[] = [];
  const answering = async (answer: string): Promise<string> => {
    let out = "";
    const ask = async (question: string): Promise<string> => {
      asked.push(question);
      return answer;
    };
    const write = (text: string): void => {
      out += text;
    };
    const io = { out: write, err: () => undefined, terminal: false, watched: true, answers: true, ask };
    expect(await discardLetters("dead-letters", line, io)).toBe(0);
    return out;
  };
  expect(await answering("")).toBe("discarded: 0 dead letters\n");
  expect(await answering("maybe")).toBe("discarded: 0 dead letters\n");
  expect(await answering("y")).toBe("discarded: 2 dead letters\n");
  expect(asked).toEqual(Array.from({ length: 3 }, () => "Discard 2 dead letters? [y/N] "));
});

test("of two sessions that redrive the same dead letter at once one does it, and one delivery comes of it", async () => {
  await kill(SendSms, 1);
  const [row] = (
    await eye.query<{ id: string }>(
      "select posthorn.public_id(message, nonce) as id from posthorn.dead_letter l order by l.id desc limit 1",
    )
  ).rows;
  const sessions = [1, 2].map(() => new Client({ connectionString: database.url }));
  await Promise.all(sessions.map((session) => session.connect()));
  const [first, second] = sessions as [Client, Client];
  try {
    await first.query("begin");
    const filter = { list: "dead-letters", message: row?.id ?? "" } as const;
    const taken = await redrive(
      { query: async (text, params) => first.query(text, [...(params ?? [])]) as never },
      filter,
      "ann",
      10,
    );
    expect(taken).toHaveLength(1);
    // The first still holds the row: the second passes over it and finds nothing, before and after its commit.
    const executor = {
      query: async (text: string, params?: readonly unknown[]) => second.query(text, [...(params ?? [])]) as never,
    };
    expect(await redrive(executor, filter, "ben", 10)).toEqual([]);
    await first.query("commit");
    expect(await redrive(executor, { ...filter, upto: "0" }, "ben", 10)).toEqual([]);
  } finally {
    await Promise.all(sessions.map((session) => session.end()));
  }
  await eventually(async () => {
    const { rows } = await eye.query(
      "select history from posthorn.dead_letter where posthorn.public_id(message, nonce) = $1",
      [row?.id],
    );
    expect(rows[0]?.history.map(({ outcome, by }: { outcome: string; by?: string }) => by ?? outcome)).toEqual([
      "failed",
      "ann",
      "failed",
    ]);
    return true;
  });
});

test("what was discarded is kept for as long as a dead letter would be, and then forgotten", async () => {
  await kill(SendSms, 1);
  const { rowCount } = await eye.query(
    "update posthorn.discarded set keep_until = clock_timestamp() - interval '1 second'",
  );
  expect(rowCount).toBeGreaterThan(0);
  await cli("dead-letters", "discard", "--all", "--yes", "--reason", "x", "--contract", "SendSms");
  // By the pass of whoever works.
  await eventually(async () => {
    const { rows } = await eye.query(
      "select count(*)::int as n from posthorn.discarded where keep_until < clock_timestamp()",
    );
    return rows[0]?.n === 0;
  });
  expect(await count("discarded")).toBeGreaterThan(0);
});
