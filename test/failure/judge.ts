/** Compares what was confirmed to the producers with what is stored, what has ended, and what took effect. */
import { expect } from "vitest";
import { deadOf, effectsOf, holds, notEndedOnce, storedNumbers } from "./account.js";
import type { Load } from "./load.js";
import type { Scene } from "./scene.js";

const readersOf: Readonly<Record<string, readonly string[]>> = {
  WriteRow: ["rows"],
  CallOutside: ["outside"],
  FireOnce: ["once"],
  OrderPlaced: ["ledger", "mirror"],
};

/** To be called when all is quiet. */
export async function judge(scene: Scene, load: Load): Promise<void> {
  // For our own questions: without figures about the tables they would be answered by nested loops.
  await scene.rows("analyze");
  expect(await notEndedOnce(scene), "messages that ended never, or twice").toEqual([]);
  for (const [contract, fates] of load.fates) {
    const stored = await storedNumbers(scene, contract);
    const own = new Set(stored.filter((n) => n < 1_000_000));
    const lost = [...fates].filter(([n, fate]) => fate === "confirmed" && !own.has(n)).map(([n]) => n);
    expect(lost, `${contract}: confirmed and not stored`).toEqual([]);
    const refused = [...fates].filter(([n, fate]) => fate === "refused" && own.has(n)).map(([n]) => n);
    expect(refused, `${contract}: refused and yet stored`).toEqual([]);
    for (const reader of readersOf[contract] ?? []) await judgeReader(scene, reader, stored);
  }
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
  await judgeFollowers(scene);
}

async function judgeReader(scene: Scene, reader: string, stored: readonly number[]): Promise<void> {
  const effects = await effectsOf(scene, reader);
  const dead = await deadOf(scene, reader);
  const said = new Map<number, number>();
  for (const n of stored) said.set(n, (said.get(n) ?? 0) + 1);
  const wrong: string[] = [];
  for (const [n, times] of said) {
    const seen = effects.get(n) ?? 0;
    const reason = dead.get(n);
    if (reason !== undefined && reason !== (reader === "once" ? "outcome unknown" : "killed its workers")) {
      wrong.push(`${n} is dead: ${reason}`);
    }
    if (seen < times && reason === undefined) wrong.push(`${n} took effect ${seen} of ${times} times`);
    if (reader !== "outside" && reader !== "mirror" && seen > times) wrong.push(`${n} took effect ${seen} times`);
    if ((reader === "rows" || reader === "ledger") && reason !== undefined && seen >= times)
      wrong.push(`${n} is dead and took effect`);
  }
  const strangers = [...effects.keys()].filter((n) => !said.has(n));
  expect(wrong, reader).toEqual([]);
  expect(strangers, `${reader}: effects of messages that were never said`).toEqual([]);
}

/** What a handler says goes out once for each delivery that succeeded: once for each of its readers, however often it ran. */
async function judgeFollowers(scene: Scene): Promise<void> {
  const wrong = await scene.rows(`
    with asked as (
      select (m.payload ->> 'n')::int + 1000000 as n, string_agg(s.name, ',' order by s.name) as of, count(*) as times from posthorn.message_1 m
        join posthorn.subscription s on s.channel = m.channel
        left join posthorn.dead_letter d on d.subscription = s.id and d.message = m.id
        where d.id is null and s.name <> 'once' and (m.payload ->> 'n')::int < 1000000 and (m.payload ->> 'n')::int % 5 = 0 group by 1
    ), got as (
      select (m.payload ->> 'n')::int as n, count(*) as times from posthorn.message_1 m where (m.payload ->> 'n')::int > 1000000 group by 1
    )
    select n, asked.of, asked.times as asked, got.times as got from asked full join got using (n) where asked.times is distinct from got.times limit 20`);
  expect(wrong, "what handlers said, asked for and stored").toEqual([]);
}
