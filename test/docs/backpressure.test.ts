import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { createDatabase } from "../support/server.js";
import { run } from "./examples/backpressure.js";

test("the program of the guide about backpressure does what the guide says", async () => {
  const database = await createDatabase();
  const printed: string[] = [];
  await run(database.url, (line) => printed.push(line), silentLogger);
  await database.drop();
  expect(printed).toEqual(["to ada@example.org"]);
});
