/**
 * rate-limit: a queue of 500 messages a second, worked on by four processes, with more waiting than they may begin. How far the rate is from 500, and
 * how many messages at most began beyond it at once: the largest burst of any length.
 */
import { setTimeout as wait } from "node:timers/promises";
import { posthorn } from "posthorn";
import { fill } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { figure, type Round, worst } from "../measure.js";
import { startProgram } from "../program.js";
import type { LimitedCalls } from "../programs/limited.js";

const names = ["rate-limit", "rate-limit-burst"] as const;
const perSecond = 500;
const workers = 4;
const measuredSeconds = 30;
/** Until all have begun to work. */
const warmupSeconds = 2;

interface Passed {
  readonly awry: Round;
  readonly burst: Round;
}

/** The most that began within any time beyond what the rate allows for it. */
function largestBurst(begins: readonly number[]): number {
  let lowest = Number.POSITIVE_INFINITY;
  let most = 0;
  begins.forEach((at, i) => {
    const due = (at * perSecond) / 1_000;
    lowest = Math.min(lowest, i - due);
    most = Math.max(most, i + 1 - due - lowest);
  });
  return most;
}

async function pass(bench: Bench, seconds: number): Promise<Passed> {
  const { url, drop } = await bench.database();
  const post = posthorn({ service: "bench-filler", database: url, migrate: "auto" });
  await post.migrate();
  await fill(post, Math.ceil((seconds + warmupSeconds) * perSecond * 1.2) + 1_000);
  await post.stop();
  const fleet = await Promise.all(
    Array.from({ length: workers }, () => startProgram<LimitedCalls>("limited", { url, perSecond })),
  );
  await Promise.all(fleet.map((worker) => worker.call("start", undefined)));
  await wait((warmupSeconds + seconds) * 1_000 + 200);
  const begins = (await Promise.all(fleet.map((worker) => worker.call("begins", undefined)))).flat();
  await Promise.all(fleet.map((worker) => worker.stop()));
  await drop();
  begins.sort((a, b) => a - b);
  const from = (begins[0] ?? Number.NaN) + warmupSeconds * 1_000;
  const begun = begins.filter((at) => at >= from && at < from + seconds * 1_000).length;
  const awry = Math.abs(begun / seconds / perSecond - 1) * 100;
  return { awry: { value: awry, seconds }, burst: { value: largestBurst(begins), seconds } };
}

export const rateLimit: Row = {
  names,
  long: true,
  run: async (bench) => {
    const seconds = measuredSeconds * (bench.messages(100) / 100);
    const rounds: Passed[] = [];
    while (rounds.length < Math.min(bench.rounds, 3)) {
      bench.progress(`round ${rounds.length + 1}`);
      rounds.push(await pass(bench, seconds));
    }
    return [
      figure({
        name: names[0],
        unit: "% from 500/s",
        rounds: rounds.map(({ awry }) => awry),
        bar: { atMost: 5 },
      }),
      figure({
        name: names[1],
        unit: "messages",
        rounds: rounds.map(({ burst }) => burst),
        bar: { atMost: perSecond },
        of: worst,
      }),
    ].filter(({ name }) => bench.wants(name));
  },
};
