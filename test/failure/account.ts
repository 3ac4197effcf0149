/** Reads the log and the tables beside it as a whole: what was said, how it ended for each reader, and what somebody still holds. */
import type { Scene } from "./scene.js";

/** The slot that is written to; these tests never rotate. */
const ends = `
  with said as (select m.id, m.channel, m.contract, (m.payload ->> 'n')::int as n from posthorn.message_1 m),
  settled as (
    select c.subscription, u.message from posthorn.settlement_1 t join posthorn.claim_1 c on c.id = t.claim
      cross join lateral unnest(coalesce(t.messages, c.messages)) u(message) where t.outcome in ('succeeded', 'skipped')
    union all
    select e.subscription, e.message from posthorn.ending_1 e where e.outcome in ('succeeded', 'skipped')
  ),
  dead as (select d.subscription, d.message, d.reason from posthorn.dead_letter d)`;

export interface Loss {
  readonly reader: string;
  readonly n: number;
  readonly succeeded: number;
  readonly dead: number;
}

/** Messages that ended not exactly once for a reader of their channel. */
export async function notEndedOnce(scene: Scene): Promise<Loss[]> {
  return scene.rows<Loss>(`${ends}
    select s.name as reader, m.n, coalesce(e.times, 0)::int as succeeded, coalesce(d.times, 0)::int as dead
    from said m join posthorn.subscription s on s.channel = m.channel
    left join (select subscription, message, count(*) as times from settled group by 1, 2) e on e.subscription = s.id and e.message = m.id
    left join (select subscription, message, count(*) as times from dead group by 1, 2) d on d.subscription = s.id and d.message = m.id
    where coalesce(e.times, 0) + coalesce(d.times, 0) <> 1 limit 20`);
}

/** The numbers of the messages of a contract, as often as they were stored. */
export async function storedNumbers(scene: Scene, contract: string): Promise<number[]> {
  const rows = await scene.rows<{ n: number }>(
    `select (m.payload ->> 'n')::int as n from posthorn.message_1 m join posthorn.contract c on c.id = m.contract where c.name = $1`,
    [contract],
  );
  return rows.map(({ n }) => n);
}

/** How often each number has an effect of a reader. */
export async function effectsOf(scene: Scene, reader: string): Promise<ReadonlyMap<number, number>> {
  const rows = await scene.rows<{ n: number; times: number }>(
    "select n, count(*)::int as times from effect where reader = $1 group by n",
    [reader],
  );
  return new Map(rows.map(({ n, times }) => [n, times]));
}

/** The numbers of the dead letters of a reader, with their reasons. */
export async function deadOf(scene: Scene, reader: string): Promise<ReadonlyMap<number, string>> {
  const rows = await scene.rows<{ n: number; reason: string }>(
    "select (payload ->> 'n')::int as n, reason from posthorn.dead_letters where subscription = $1",
    [reader],
  );
  return new Map(rows.map(({ n, reason }) => [n, reason]));
}

/** What somebody holds or has left behind; all zero when nothing runs. */
export async function holds(scene: Scene): Promise<Record<string, number>> {
  const [row] = await scene.rows<Record<string, number>>(`select
    (select count(*) from posthorn.claim_1 c where not exists (
      select from posthorn.settlement_1 t where t.claim = c.id and t.closes))::int as "openClaims",
    (select count(*) from posthorn.deferred where token is not null)::int as "heldDeferred",
    (select count(*) from posthorn.deferred)::int as deferred,
    (select count(*) from posthorn.worker)::int as workers`);
  return row ?? {};
}
