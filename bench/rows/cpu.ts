/** cpu-at-200: what the whole server costs while one process sends 200 messages a second to another. */
import type { Row } from "../bench.js";
import { figure, type Round } from "../measure.js";
import { serverCpu } from "../server-cpu.js";
import { openTraffic } from "./traffic.js";

const name = "cpu-at-200";

export const cpuAt200: Row = {
  names: [name],
  run: async (bench) => {
    const { url } = await bench.database();
    const cpu = await serverCpu(url);
    if ("reason" in cpu) {
      bench.skip(name, cpu.reason);
      return [];
    }
    const traffic = await openTraffic("message", url);
    bench.progress("warm-up");
    await traffic.at(200, bench.warmupMs);
    const rounds: Round[] = [];
    while (rounds.length < bench.rounds) {
      bench.progress(`round ${rounds.length + 1} of ${bench.rounds}`);
      const [begun, used] = [performance.now(), cpu.seconds()];
      await traffic.at(200, bench.roundMs);
      const seconds = (performance.now() - begun) / 1_000;
      rounds.push({ value: ((cpu.seconds() - used) / seconds) * 100, seconds });
    }
    await traffic.stop();
    return [figure({ name, unit: "% of a core", rounds, bar: { atMost: 25 } })];
  },
};
