/** Rotations for tests at the level of SQL: as many steps as there are, and what the log consists of. */
import { type RotationStep, rotate } from "../../src/store/segments.js";
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
