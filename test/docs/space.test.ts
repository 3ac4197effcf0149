import { Client } from "pg";
import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { createDatabase } from "../support/server.js";
import { run } from "./examples/space.js";
import { readPage } from "./pages.js";

test("the program of the guide about space keeps what the guide says, and its questions have answers", async () => {
  const database = await createDatabase();
  const printed: string[] = [];
  await run(database.url, (line) => printed.push(line), silentLogger);
  expect(printed).toEqual(["confirmed A1", "kept for 30 days"]);
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const [kept] = (await client.query("select keep_ms, max_bytes::text from posthorn.retention")).rows;
  expect(kept).toEqual({ keep_ms: 172_800_000, max_bytes: String(20 * 1_024 ** 3) });
  const [topic] = (await client.query("select keep_ms, lanes from posthorn.channel where name = 'orders'")).rows;
  expect(topic).toEqual({ keep_ms: 2_592_000_000, lanes: 4 });
  const questions = readPage("docs/guides/space.md").blocks.filter(({ language }) => language === "sql");
  expect(questions.length).toBeGreaterThan(1);
  for (const { text } of questions) expect((await client.query(text)).rows.length, text).toBeGreaterThan(0);
  await client.end();
  await database.drop();
});
