/**
 * rescue-after-kill: from SIGKILL of a worker in mid-handler to the start of the same message's handler in another process.
 *
 * Two equal workers; whichever gets the message is killed, and a fresh one takes its place. The kill comes at a random moment of the
 * survivor's idle rhythm. Several pairs, each on a database of its own, so that the row does not take minutes.
 */
import { setTimeout as wait } from "node:timers/promises";
import { posthorn } from "posthorn";
import type { Bench, Row } from "../bench.js";
import { now } from "../clock.js";
import { figure, type Round, worst } from "../measure.js";
import { payload, Work } from "../payload.js";
import { type Program, startProgram } from "../program.js";
import type { HolderCalls } from "../programs/holder.js";

const name = "rescue-after-kill";
const kills = 20;
const pairs = 4;
/** Long enough for the survivor to rest; the random part covers the second between two of its looks. */
const holdMs = 2_000;
const randomMs = 1_000;

type Holder = Program<HolderCalls>;

const start = (url: string): Promise<Holder> => startProgram<HolderCalls>("holder", { url });

async function rescueOnce(url: string, send: () => Promise<unknown>, pair: readonly [Holder, Holder]) {
  const begins = pair.map((holder) => holder.call("begun", undefined).then((at) => ({ holder, at })));
  // That of the one who is killed rejects.
  for (const one of begins) one.catch(() => undefined);
  await send();
  const { holder: victim } = await Promise.race(begins);
  const survivor = pair[0] === victim ? pair[1] : pair[0];
  await wait(holdMs + Math.random() * randomMs);
  const killedAt = now();
  victim.kill();
  const begun = await begins[pair.indexOf(survivor)];
  if (begun === undefined) throw new Error("nobody survived");
  await survivor.call("goOn", undefined);
  const next: readonly [Holder, Holder] = [survivor, await start(url)];
  return { ms: begun.at - killedAt, next };
}

async function rescues(bench: Bench, count: number, done: (round: Round) => void): Promise<void> {
  const { url } = await bench.database();
  const post = posthorn({ service: "bench", database: url, migrate: "auto" });
  await post.migrate();
  let pair: readonly [Holder, Holder] = [await start(url), await start(url)];
  for (let i = 0; i < count; i += 1) {
    const { ms, next } = await rescueOnce(url, () => post.send(Work, payload(i)), pair);
    pair = next;
    done({ value: ms, seconds: ms / 1_000 });
  }
  await Promise.all(pair.map((holder) => holder.stop()));
  await post.stop();
}

export const rescueAfterKill: Row = {
  names: [name],
  run: async (bench) => {
    const rounds: Round[] = [];
    const wanted = bench.messages(kills);
    const done = (round: Round) => {
      rounds.push(round);
      bench.progress(`kill ${rounds.length} of ${wanted}`);
    };
    const each = Array.from({ length: pairs }, (_, i) => Math.floor((wanted + pairs - 1 - i) / pairs));
    await Promise.all(each.filter((count) => count > 0).map((count) => rescues(bench, count, done)));
    return [figure({ name, unit: "ms", rounds, bar: { atMost: 2_000 }, of: worst })];
  },
};
