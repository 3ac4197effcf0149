/** A queue of its own for one run, and the sessions that runs share. */
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import type { Engine, Reader, Session } from "../sql/engine.js";
import { Reference } from "./reference.js";
import type { Shape } from "./said.js";

export const hour = 3_600_000;

export interface Stage {
  readonly engine: Engine;
  readonly reader: Reader;
  readonly name: string;
  readonly shape: Shape;
  readonly model: Reference;
  /** Two for transactions that stay open, one for those of handlers, one for those that roll back. */
  readonly sessions: readonly Session[];
  /** A statement whose first parameter is the queue's subscription. */
  rows(sql: string, more?: readonly (bigint | string)[]): Promise<Record<string, unknown>[]>;
}

export async function makeStage(
  engine: Engine,
  name: string,
  shape: Shape,
  sessions: readonly Session[],
): Promise<Stage> {
  const keyed = shape.ordering !== "none";
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const ordering = keyed ? { per: "key", whenDead: shape.ordering } : "none";
  const policy = JSON.stringify({ deadLetter: { keepMs: 24 * hour }, ordering });
  const declared = { name, kind: "command", channel: name, idempotency: shape.idempotency, policy } as const;
  const { subscription } = await registerSubscription(engine.db, declared, "test");
  const rows: Stage["rows"] = (sql, more = []) => engine.admin.rows(sql, [subscription, ...more.map(String)]);
  return {
    engine,
    reader: { subscription, channel, contract },
    name,
    shape,
    model: new Reference(shape),
    sessions,
    rows,
  };
}
