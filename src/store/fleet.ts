/** Workers as the database knows them: registration, heartbeats, rescue of the dead, alerts. */
import type { Executor } from "../core/database.js";
import { type Found, schemaFacts } from "./migrate.js";
import { mapped } from "./sqlstate.js";

export interface WorkerEntry {
  readonly service: string;
  readonly host: string;
  readonly pid: number;
  readonly timeoutMs: number;
  /** Key of the session lock, as text; null where there are no sessions of one's own. */
  readonly sessionKey: string | null;
  readonly backends: readonly Backend[];
  readonly attends: readonly Attends[];
  /** Version of the library; null where it is not told. */
  readonly library?: string;
}

export interface Attends {
  readonly subscription: number;
  readonly contracts: readonly number[];
  /** The policy that this worker carries. */
  readonly policy?: object;
}

/** A server process of ours, so that a rescuer can end it when we are stopped. */
export interface Backend {
  readonly pid: number;
  readonly started: string;
}

export async function backendOf(executor: Executor): Promise<Backend | undefined> {
  const { rows } = await executor.query<Backend>(
    "select pid, backend_start::text as started from pg_stat_activity where pid = pg_backend_pid()",
  );
  return rows[0];
}

/** Takes the session lock that says "this worker lives": for as long as the connection does. */
export async function holdSessionLock(executor: Executor, key: string): Promise<void> {
  await executor.query("select pg_advisory_lock($1::bigint)", [key]);
}

export async function registerWorker(executor: Executor, entry: WorkerEntry): Promise<string> {
  const { rows } = await mapped(
    executor.query<{ worker: string }>(
      "select posthorn.register_worker($1::text, $2::text, $3::int, $4::int, $5::bigint, $6::json, $7::json, $8::text)::text as worker",
      [
        entry.service,
        entry.host,
        entry.pid,
        entry.timeoutMs,
        entry.sessionKey,
        JSON.stringify(entry.backends),
        JSON.stringify(entry.attends),
        entry.library ?? null,
      ],
    ),
  );
  return rows[0]?.worker ?? "0";
}

const beating = `select posthorn.heartbeat($1::bigint, $2::bigint) as alive, ${schemaFacts}`;

/**
 * `oldest`: the worker's oldest open claim, null when it has none. Undefined when it counts as dead; else which schema it works on now, asked in the
 * same statement because an idle worker sends few.
 */
export async function heartbeat(executor: Executor, worker: string, oldest: string | null): Promise<Found | undefined> {
  const { rows } = await mapped(executor.query<Found & { alive: boolean | null }>(beating, [worker, oldest]));
  return rows[0]?.alive === true ? rows[0] : undefined;
}

/** Forgets a worker that holds nothing any more; what it should hold all the same goes to a rescuer. */
export async function forgetWorker(executor: Executor, worker: string): Promise<void> {
  await mapped(executor.query("select posthorn.forget_worker($1::bigint)", [worker]));
}

export interface Rescued {
  readonly worker: string;
  readonly service: string;
  readonly host: string;
  readonly pid: number;
  readonly why: string;
  readonly messages: number;
  readonly done: boolean;
}

/** Frees what dead workers held, at most `limit` claims. */
export async function rescue(executor: Executor, limit: number): Promise<readonly Rescued[]> {
  const { rows } = await mapped(
    executor.query<{ report: string }>("select posthorn.rescue($1::int)::text as report", [limit]),
  );
  return JSON.parse(rows[0]?.report ?? "[]");
}

export interface AlertChange {
  readonly change: "raised" | "resolved";
  readonly alert: string;
  /** Null for an alert of the whole log. */
  readonly subscription: string | null;
  readonly value: number;
  readonly threshold: number;
  /** What exactly, in words; null where the name says all. */
  readonly detail: string | null;
}

/** Raises and resolves alerts, once in the fleet; null when it was not our turn. */
export async function watch(executor: Executor, everyMs: number): Promise<readonly AlertChange[] | null> {
  const { rows } = await mapped(
    executor.query<{ changes: string | null }>("select posthorn.watch($1::int)::text as changes", [everyMs]),
  );
  const changes = rows[0]?.changes ?? null;
  return changes === null ? null : JSON.parse(changes);
}

/** Promotes parked keys whose first message nobody made due; `more`: there are keys after those that were looked at. */
export async function sweepKeys(
  executor: Executor,
  limit: number,
): Promise<{ readonly promoted: number; readonly more: boolean }> {
  const { rows } = await mapped(
    executor.query<{ swept: string }>("select posthorn.sweep_keys($1::int)::text as swept", [limit]),
  );
  return JSON.parse(rows[0]?.swept ?? "null");
}

/** What becomes of a message that a worker has no handler for. */
export interface Standing {
  readonly name: string;
  readonly version: number;
  /** Handed back; skipped; or older than anybody reads. */
  readonly what: "release" | "skip" | "unreadable";
  /** The oldest version that a living worker reads. */
  readonly reads: number | null;
}

export async function standing(executor: Executor, subscription: number, contract: number): Promise<Standing> {
  const { rows } = await mapped(
    executor.query<{ standing: string }>("select posthorn.standing($1::int, $2::int)::text as standing", [
      subscription,
      contract,
    ]),
  );
  return JSON.parse(rows[0]?.standing ?? "null");
}

/** Adds to the count of events that were skipped, by contract. */
export async function countSkipped(
  executor: Executor,
  subscription: number,
  counts: ReadonlyMap<number, number>,
): Promise<void> {
  await mapped(
    executor.query("select posthorn.count_skipped($1::int, $2::json)", [subscription, JSON.stringify([...counts])]),
  );
}

/** One piece of tidying dedupe keys; returns how many were looked at. */
export async function tidyDedupe(executor: Executor, limit: number): Promise<number> {
  const { rows } = await mapped(
    executor.query<{ looked: number }>("select posthorn.tidy_dedupe($1::int) as looked", [limit]),
  );
  return rows[0]?.looked ?? 0;
}
