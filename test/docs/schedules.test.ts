import { Client } from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { openReports } from "./schedules/report.js";

test("the program of the guide to schedules sends one report after a week in which nobody was up, for its newest time", async () => {
  const database = await createDatabase();
  const eye = new Client({ connectionString: database.url });
  await eye.connect();
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((line) => void printed.push(String(line)));
  onTestFinished(async () => {
    log.mockRestore();
    await eye.end();
    await database.drop();
  });
  const first = openReports(database.url);
  await first.start();
  await first.stop();
  expect(printed).toEqual([]);
  const { rows } = await eye.query<{ next_at: Date }>(
    "update posthorn.schedule set next_at = next_at - interval '7 days', due_at = due_at - interval '7 days' returning next_at",
  );
  const second = openReports(database.url);
  await second.start();
  await eventually(() => printed.length > 0);
  await second.untilIdle();
  await second.stop();
  expect(printed).toHaveLength(1);
  const time = printed[0]?.match(/^report until (\S+), for (\S+)$/);
  expect(time?.[1]).toBe(time?.[2]);
  const at = Date.parse(time?.[1] ?? "");
  expect(at).toBeLessThanOrEqual(Date.now());
  expect(at).toBeGreaterThan(Date.now() - 26 * 3_600_000);
  expect(rows).toHaveLength(1);
});
