/** What operators look at and do: dead letters, invalid messages, alerts, error groups, the fleet. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";
import type { HistoryEntry } from "./status.js";
import type { ErrorFacts } from "./why.js";

export type List = "dead-letters" | "invalid";

export interface LetterFilter {
  readonly list: List;
  /** A public id. */
  readonly message?: string;
  readonly subscription?: string;
  readonly contract?: string;
  /** The highest id in the list that counts, as text. */
  readonly upto?: string;
  /** The fingerprint of the newest error of a message, as `errors` shows it. */
  readonly group?: string;
}

/** An entry of a list. Times are ISO 8601. */
export interface Letter {
  readonly message: string;
  readonly subscription: string;
  readonly contract: string;
  readonly version: number;
  readonly key: string | null;
  readonly publishedAt: string;
  /** When it died or was found invalid. */
  readonly at: string;
  readonly keptUntil?: string;
  readonly attempts?: number;
  readonly crashes?: number;
  readonly reason?: string;
  readonly issues?: readonly { readonly path: string; readonly message: string }[];
  readonly error: ErrorFacts | null;
  readonly payload: unknown;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly history: readonly HistoryEntry[] | null;
}

export interface Touched {
  readonly message: string;
  readonly subscription: string;
}

async function jsonOf<T>(executor: Executor, call: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(executor.query<{ json: string }>(`select posthorn.${call}::text as json`, params));
  return JSON.parse(rows[0]?.json ?? "null");
}

/** The newest entries of a list; with `full` also their payload, headers and history. */
export function letters(
  executor: Executor,
  filter: LetterFilter,
  limit: number,
  full = false,
): Promise<readonly Letter[]> {
  return jsonOf(executor, "letters($1::json, $2::int)", [JSON.stringify({ ...filter, full }), limit]);
}

/** How many entries a filter finds, and the highest id among them. */
export function countLetters(
  executor: Executor,
  filter: LetterFilter,
): Promise<{ readonly count: number; readonly upto: string | null }> {
  return jsonOf(executor, "letters_count($1::json)", [JSON.stringify(filter)]);
}

/** Gives at most `limit` entries a new delivery, due at once. Of several callers one gets an entry. */
export function redrive(
  executor: Executor,
  filter: LetterFilter,
  by: string,
  limit: number,
): Promise<readonly Touched[]> {
  return jsonOf(executor, "redrive($1::json, $2::text, $3::int)", [JSON.stringify(filter), by, limit]);
}

/** Ends at most `limit` entries for good. */
export function discard(
  executor: Executor,
  filter: LetterFilter,
  by: string,
  reason: string,
  limit: number,
): Promise<readonly Touched[]> {
  return jsonOf(executor, "discard($1::json, $2::text, $3::text, $4::int)", [
    JSON.stringify(filter),
    by,
    reason,
    limit,
  ]);
}

export interface Alert {
  readonly alert: string;
  /** The name of a queue, subscription or intake; null for an alert of the whole log. */
  readonly subscription: string | null;
  readonly value: number;
  readonly threshold: number;
  /** What exactly, in words; null or absent where the name says all. */
  readonly detail?: string | null;
  /** Of an open circuit: when the reason in it was said. */
  readonly detailAt?: string | null;
  /** Null for a rule that is crossed now and that no worker has raised yet. */
  readonly raisedAt: string | null;
  readonly resolvedAt?: string;
}

/** Open alerts, and rules that are crossed although nobody has raised them. */
export function crossedAlerts(executor: Executor): Promise<readonly Alert[]> {
  return jsonOf(executor, "crossed_alerts()", []);
}

/** Resolved alerts, the newest first. */
export function recentAlerts(executor: Executor, limit: number): Promise<readonly Alert[]> {
  return jsonOf(executor, "recent_alerts($1::int)", [limit]);
}

export interface FleetWorker {
  readonly id: string;
  readonly service: string;
  readonly host: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly heartbeatAt: string;
  readonly worksOn: readonly string[];
  /** Why it counts as dead; null while it lives. */
  readonly dead: string | null;
}

export function fleet(executor: Executor): Promise<readonly FleetWorker[]> {
  return jsonOf(executor, "fleet()", []);
}

/** Failed attempts that have queue, contract, name, code, normalised message and place in common. */
export interface ErrorGroup {
  readonly fingerprint: string;
  readonly subscription: string;
  readonly contract: string;
  readonly name: string;
  readonly code: string | null;
  readonly message: string;
  /** The first line of the stack, without line numbers. */
  readonly at: string | null;
  /** Failed attempts. */
  readonly count: number;
  readonly messages: number;
  readonly firstSeen: string;
  readonly lastSeen: string;
  /** The public id of a message that met it. */
  readonly example: string;
}

/** Reads the newest `read` waiting and dead messages. */
export function errorGroups(
  executor: Executor,
  filter: { readonly subscription?: string; readonly contract?: string },
  limit: number,
  read: number,
): Promise<readonly ErrorGroup[]> {
  return jsonOf(executor, "error_groups($1::json, $2::int, $3::int)", [JSON.stringify(filter), limit, read]);
}

export interface RegisteredSubscription {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  /** Null until a worker has declared it. */
  readonly service: string | null;
  readonly policy: unknown;
}

export interface RegisteredContract {
  readonly name: string;
  readonly version: number;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly keyed: boolean;
  readonly owner: string | null;
  readonly by: string;
}

export interface Registered {
  readonly subscriptions: readonly RegisteredSubscription[];
  readonly contracts: readonly RegisteredContract[];
  readonly intakes: readonly RegisteredIntake[];
}

export interface RegisteredIntake {
  readonly name: string;
  readonly service: string;
  readonly broker: string;
  readonly place: string;
  readonly keepMs: number;
  /** Null where the library that declared it did not know the bound. */
  readonly alerts: { readonly awayMs: number; readonly refused: number | null; readonly invalid: number | null };
  /** In the order of their names. */
  readonly contracts: readonly string[];
}

/** What the registry knows, for comparison with code. */
export function registered(executor: Executor): Promise<Registered> {
  return jsonOf(executor, "registered()", []);
}

/** The intakes alone, which a worker may ask for. */
export function registeredIntakes(executor: Executor): Promise<readonly RegisteredIntake[]> {
  return jsonOf(executor, "registered_intakes()", []);
}
