import { execFile } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Figure } from "../../bench/measure.js";
import { adminUrl } from "../support/server.js";
import { shared } from "../support/shared.js";

interface Ran {
  readonly code: number;
  readonly lines: readonly string[];
  readonly errorOutput: string;
}

/** Runs the bench, compiled as the fixtures are, on the server of the test run. */
async function bench(...args: readonly string[]): Promise<Ran> {
  const script = join(await shared("fixtures"), "bench", "main.js");
  const env = { ...process.env, POSTHORN_BENCH_URL: await adminUrl() };
  const options = { env, timeout: 120_000, killSignal: "SIGKILL" } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [script, ...args], options, (error, output, errorOutput) => {
      if (child.exitCode === null) return reject(error);
      resolve({ code: child.exitCode, lines: output.split("\n").filter((line) => line !== ""), errorOutput });
    });
  });
}

test("the bench prints a line of JSON for each figure that was asked for, and what it measured with elsewhere", async () => {
  const { code, lines, errorOutput } = await bench("bulk-publish", "rescue", "--quick", "--json");
  const figures = lines.map((line): Figure => JSON.parse(line));
  const ofNumber = expect.any(Number);
  const rest = { value: ofNumber, min: ofNumber, max: ofNumber, n: 2, seconds: ofNumber, holds: expect.any(Boolean) };
  expect(figures).toEqual([
    { ...rest, name: "bulk-publish", unit: "messages/s", limit: ofNumber, ratio: ofNumber, bar: "≥ 0.6 of the limit" },
    { ...rest, name: "rescue-after-kill", unit: "ms", limit: null, ratio: null, bar: "≤ 2000" },
  ]);
  expect(code).toBe(figures.every(({ holds }) => holds) ? 0 : 1);
  expect(figures[0]?.seconds).toBeGreaterThanOrEqual(2);
  expect(errorOutput).toMatch(/fsync on, synchronous_commit on, shared_buffers/);
  expect(errorOutput).toMatch(/Node v.* commit /);
}, 130_000);

test.each(["latancy", "drain-", "--lang"])("the bench refuses %s with the list of what it knows", async (name) => {
  const { code, lines, errorOutput } = await bench(name);
  expect([code, lines]).toEqual([2, []]);
  expect(errorOutput).toContain(name);
  expect(errorOutput).toContain("bulk-publish, drain-handler, drain-defaults, publish-in-transaction");
});
