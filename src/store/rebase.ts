/**
 * Makes a copy of a log at home where it lies now, or says what that would be. Everything happens in one transaction: a process that
 * dies in it has changed nothing.
 */
import type { Database, Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** Why a database is not the home of its log. */
export type Away = "copied" | "behind" | "moved" | "unfinished";

export interface RebasePlan {
  readonly reason: Away;
  /** The same in words. */
  readonly says: string;
  /** What to do about it. */
  readonly hint: string;
  /** Workers of before, all of which count as dead. */
  readonly workers: number;
  /** Messages that they held. */
  readonly held: number;
  /** Messages that were committed late, and not yet delivered: they go to those that wait outside of the log. */
  readonly missed: number;
  /** Messages that wait in the log, counted once for each of their readers; they stay where they are. */
  readonly waiting: number;
  /** Messages that wait outside of it. */
  readonly deferred: number;
}

export interface Rebased extends RebasePlan {
  readonly epoch: number;
  /** The first id that a message can have from here on. */
  readonly firstId: string;
}

type Answer<T> = { readonly needed: false } | ({ readonly needed: true } & T);

/** What `rebase` would do; undefined when this database is the home of its log. Changes nothing. */
export async function planRebase(executor: Executor): Promise<RebasePlan | undefined> {
  return answered(await one<RebasePlan>(executor, "select posthorn.rebase_plan() as answer"));
}

/**
 * From here on this database is the home of its log. Undefined when it was already.
 *
 * Concurrency: of two at once the second finds nothing to do. Whoever reads or writes waits meanwhile.
 * Errors: `DatabaseRefusedError` (PH_POSITION_LOST); `DatabaseUnavailableError` (PH_DATABASE_LOCKED) where somebody holds the log for ten seconds.
 */
export async function rebase(database: Pick<Database, "begin">): Promise<Rebased | undefined> {
  const tx = await database.begin({ marked: false });
  try {
    const rebased = answered(await one<Rebased>(tx, "select posthorn.rebase() as answer"));
    await mapped(tx.commit());
    return rebased;
  } catch (error) {
    await tx.rollback();
    throw error;
  }
}

async function one<T>(executor: Executor, text: string): Promise<Answer<T> | undefined> {
  const { rows } = await mapped(executor.query<{ answer: Answer<T> }>(text));
  return rows[0]?.answer;
}

function answered<T>(answer: Answer<T> | undefined): T | undefined {
  return answer?.needed === true ? answer : undefined;
}
