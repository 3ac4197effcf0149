/** Rotations for tests at the level of SQL: as many steps as there are, and what the log consists of. */
import { type RotationStep, rotate } from "../../src/store/segments.js";
import { eventually } from "../support/eventually.js";
import type { Engine } from "./engine.js";

/** From now on a segment is over as soon as something lies in it, and nothing is kept. */
export async function keepNothing(engine: Engine): Promise<void> {
  await engine.admin.rows(
    `insert into posthorn.retention (keep_ms, max_bytes, declared_by) values (0, 1000000000000, 'test')
     on conflict (singleton) do update set keep_ms = 0, max_bytes = excluded.max_bytes`,
  );
}

/** Every step that there is to do now. */
export async function turn(engine: Engine): Promise<readonly RotationStep[]> {
  const steps: RotationStep[] = [];
  for (;;) {
    const { did } = await rotate(engine.db);
    if (did === null) return steps;
    steps.push(did);
    if (steps.length > 500) throw new Error(`a rotation does not come to an end: ${steps.slice(-20).join(" ")}`);
  }
}

/** Rotates until nothing is left but one empty segment. The server lists the transactions of sessions that it has just ended for a moment, and segments wait for them. */
export async function emptied(engine: Engine): Promise<void> {
  await eventually(async () => {
    await turn(engine);
    return (await rowsOf(engine, "message")) === 0 && (await ringOf(engine)).slots.length === 1;
  });
}

export interface Ring {
  readonly slots: readonly number[];
  readonly slot: number;
  readonly first: number;
}

export async function ringOf(engine: Engine): Promise<Ring> {
  const [row] = await engine.admin.rows("select slots, slot, first_segment::int as first from posthorn.ring");
  return row as unknown as Ring;
}

/** What pins the oldest segment. */
export async function pinsOf(engine: Engine): Promise<unknown> {
  return engine.admin.value("select posthorn.pins(first_segment) from posthorn.ring");
}

/** Rows of a table of the log in all slots. */
export async function rowsOf(engine: Engine, table: "message" | "claim" | "settlement" | "ending"): Promise<number> {
  const parts = [1, 2, 3, 4, 5, 6, 7, 8].map((slot) => `(select count(*) from posthorn.${table}_${slot})`);
  return Number(await engine.admin.value(`select ${parts.join(" + ")}`));
}

/** A function of the test that writes messages with ids that were drawn before, into the slot that its statement sees. */
export async function makeEarlyInsert(engine: Engine): Promise<string> {
  await engine.admin.rows(`create function insert_early(p_channel int, p_contract int, p_ids bigint[], p_numbers int[]) returns void language plpgsql as $$
    begin
      execute format('insert into posthorn.message_%s (id, nonce, xid, published_at, channel, lane, contract, payload)
        select e.id, 7, pg_current_xact_id(), clock_timestamp(), $1, 0, $2, json_build_object(''m'', e.m) from unnest($3, $4) e(id, m)',
        (select slot from posthorn.ring)) using p_channel, p_contract, p_ids, p_numbers;
    end $$`);
  return "select insert_early($1::int, $2::int, $3::bigint[], $4::int[])";
}

/** Rotates again and again until it is told to stop; returns how many segments went. */
export async function rotateUntil(engine: Engine, stopped: () => boolean): Promise<number> {
  let truncated = 0;
  while (!stopped()) {
    const { did } = await rotate(engine.db);
    if (did === "truncated") truncated += 1;
    // Others want the processor, too.
    if (did === null) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return truncated;
}
