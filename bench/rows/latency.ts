/** From the call of send in one process to the start of the handler in another, at 200 and at 2,000 messages a second. */
import type { Row } from "../bench.js";
import { alternate, type Bar, figure, type Probe } from "../measure.js";
import { openTraffic, type Passed } from "./traffic.js";

/** Both rates in one round, so that the limit, always at 200, stands beside either. */
interface Rates {
  readonly at200: Passed | undefined;
  readonly at2000: Passed | undefined;
}

interface Line {
  readonly name: string;
  readonly rate: keyof Rates;
  readonly share: "p50" | "p99";
  readonly bar: Bar;
}

const lines: readonly Line[] = [
  { name: "latency-200-p50", rate: "at200", share: "p50", bar: { most: 2 } },
  { name: "latency-200-p99", rate: "at200", share: "p99", bar: { most: 3 } },
  { name: "latency-2000-p99", rate: "at2000", share: "p99", bar: { most: 5 } },
];

export const latency: Row = {
  names: lines.map(({ name }) => name),
  run: async (bench) => {
    const { url } = await bench.database();
    const [notify, message] = [await openTraffic("notify", url), await openTraffic("message", url)];
    const wanted = lines.filter(({ name }) => bench.wants(name));
    const needs = (rate: keyof Rates) => wanted.some((line) => line.rate === rate);
    const limit: Probe<Passed> = { round: (ms) => notify.at(200, ms), close: () => notify.stop() };
    const product: Probe<Rates> = {
      round: async (ms) => ({
        at200: needs("at200") ? await message.at(200, ms) : undefined,
        at2000: needs("at2000") ? await message.at(2_000, ms) : undefined,
      }),
      close: () => message.stop(),
    };
    const { limits, rounds } = await alternate(bench, limit, product);
    const latest = Math.max(notify.latestMs, message.latestMs);
    bench.note(`latency: no call of send began more than ${latest.toFixed(1)} ms after its time`);
    return wanted.map(({ name, rate, share, bar }) => {
      const of = (passed: Passed | undefined) => ({
        value: passed?.[share] ?? Number.NaN,
        seconds: passed?.seconds ?? 0,
      });
      return figure({ name, unit: "ms", rounds: rounds.map((round) => of(round[rate])), limits: limits.map(of), bar });
    });
  },
};
