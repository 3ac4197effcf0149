/** What must hold after each act, and when all has ended. */
import { isDeepStrictEqual } from "node:util";
import { isEnded, type Said } from "./said.js";
import type { Stage } from "./stage.js";

/** The database did what the model does not allow. */
export class Wrong extends Error {}

export function compare(what: string, got: unknown, expected: unknown): void {
  if (isDeepStrictEqual(got, expected)) return;
  throw new Wrong(`${what}: ${JSON.stringify(got)}, and should be ${JSON.stringify(expected)}`);
}

/**
 * What the tables hold is the model's: every message that waits or was taken, every dead letter, the parked keys, how many messages there are. What is in
 * another state than at the last look is asked for as people do it, by status and by `why`; `all`: everything is.
 */
export async function check({ engine, reader, model }: Stage, looked: Map<Said, string>, all: boolean): Promise<void> {
  const stored = model.all.filter(({ at }) => at !== "open");
  const asked = stored.filter((said) => all || looked.get(said) !== said.state);
  const [row] = await engine.admin.rows(
    `select (select json_agg(json_build_array(posthorn.message_status(i.id) #>> '{0,state}', posthorn.why(i.id) #>> '{receivers,0,state}') order by n)
        from unnest($2::text[]) with ordinality i(id, n)) as asked,
      (select json_agg(json_build_array(w.message::text, w.state, w.delivery, w.attempts, w.crashes) order by w.message) from (
        select d.message, posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) as state, d.delivery, d.attempts, d.crashes
          from posthorn.deferred d where d.subscription = $1
        union all select l.message, 'dead', l.delivery, l.attempts, l.crashes from posthorn.dead_letter l where l.subscription = $1) w) as waiting,
      array(select p.key from posthorn.parked_key p where p.subscription = $1 order by p.key) as parked,
      (select count(*)::int from posthorn.message_1 m where m.channel = $3) as messages`,
    [reader.subscription, asked.map(({ publicId }) => publicId), reader.channel],
  );
  const states = (row?.asked ?? []) as readonly unknown[];
  for (const [i, said] of asked.entries()) compare(`state of ${said.says}`, states[i], [said.state, said.state]);
  for (const said of asked) looked.set(said, said.state);
  const waiting = model.all.filter((said) => said.isLive || said.at === "dead").sort((a, b) => Number(a.id - b.id));
  compare(
    "what waits",
    row?.waiting ?? [],
    waiting.map((said) => [String(said.id), said.state, said.delivery, said.attempts, said.crashes]),
  );
  compare("parked keys", row?.parked, [...model.parked].sort());
  compare("stored messages", row?.messages, stored.length);
}

/** When all has ended: nothing is held, waits, or lies in the way, and each effect is there as often as its message has succeeded. */
export async function checkEnd({ engine, reader, model }: Stage, ends: ReadonlyMap<Said, number>): Promise<void> {
  const open = model.all.filter((said) => !isEnded(said));
  compare(
    "messages without an end",
    open.map(({ says, state }) => [says, state]),
    [],
  );
  for (const said of model.all) compare(`ends of ${said.says}`, ends.get(said) ?? 0, said.at === "succeeded" ? 1 : 0);
  const [left] = await engine.admin.rows(
    `select (select count(*)::int from posthorn.open_claims() c where c.subscription = $1) as claims,
      (select count(*)::int from posthorn.deferred d where d.subscription = $1) as deferred,
      (select count(*)::int from posthorn.parked_key p where p.subscription = $1) as parked,
      (select count(*)::int from posthorn.cancel_mark k where k.subscription = $1) as marks`,
    [reader.subscription],
  );
  compare("what is left", left, { claims: 0, deferred: 0, parked: 0, marks: 0 });
}

/** In transaction mode: the effects that were committed. */
export async function checkEffects({ engine, model }: Stage): Promise<void> {
  const ids = model.all.map(({ id }) => String(id));
  const rows = await engine.admin.rows(
    "select id::text, count(*)::int from effect where id = any ($1::bigint[]) group by id",
    [ids],
  );
  const effects = new Map(rows.map(({ id, count }) => [String(id), count]));
  for (const said of model.all) {
    compare(`effects of ${said.says}`, effects.get(String(said.id)) ?? 0, said.at === "succeeded" ? 1 : 0);
  }
}
