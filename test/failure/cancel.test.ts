import { expect, test } from "vitest";
import { effectsOf } from "./account.js";
import { WriteRow } from "./fixtures/contracts.js";
import { openScene, upTo } from "./scene.js";

test("under workers that are killed by SIGKILL, every command that somebody cancels is either done once or cancelled without an effect, as it was answered", async () => {
  // Goal: a cancel is neither lost nor a lie, whatever claims, ends and rescues happen at the same time.
  // Method: three workers write one row for each message in its own transaction, some of them at the second attempt; while they do, every
  // other message is cancelled, some of them twice, and workers are killed and replaced. Then states, answers and rows are compared.
  const scene = await openScene();
  const settings = { readers: ["rows"], concurrency: 5 };
  const workers = [await scene.worker(settings), await scene.worker(settings), await scene.worker(settings)];
  const messages = upTo(600).map((n) => ({ n, act: n % 3 === 0 ? "fail once" : "write" }));
  const receipts = await scene.post.sendMany(WriteRow, messages);
  const answers = new Map<number, string[]>();
  const cancelSome = async (from: number, step: number) => {
    for (let i = receipts.length - from; i >= 0; i -= step) {
      const answer = await receipts[i]?.cancel();
      answers.set(i + 1, [...(answers.get(i + 1) ?? []), answer ?? "none"]);
      if (i % 150 === 0) {
        workers.pop()?.kill();
        workers.push(await scene.worker(settings));
      }
    }
  };
  await Promise.all([cancelSome(1, 2), cancelSome(2, 3)]);
  await scene.quiet(120_000);
  const effects = await effectsOf(scene, "rows");
  const wrong: unknown[] = [];
  const tally = { succeeded: 0, cancelled: 0 };
  for (const [i, receipt] of receipts.entries()) {
    const n = i + 1;
    const { state } = await receipt.status();
    const given = answers.get(n) ?? [];
    const rows = effects.get(n) ?? 0;
    const fits =
      state === "succeeded"
        ? rows === 1 && !given.includes("cancelled")
        : state === "cancelled" && rows === 0 && given.some((answer) => answer !== "too-late");
    if (!fits) wrong.push({ n, state, given, rows });
    else if (state === "succeeded" || state === "cancelled") tally[state] += 1;
  }
  expect(wrong).toEqual([]);
  expect(Math.min(tally.succeeded, tally.cancelled)).toBeGreaterThan(0);
  expect(await scene.count("select count(*) from posthorn.cancel_mark")).toBe(0);
}, 300_000);
