/** Intakes as operators see them: how they stand, and what fits nothing. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

async function jsonOf<T>(executor: Executor, call: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(executor.query<{ json: string }>(`select posthorn.${call}::text as json`, params));
  return JSON.parse(rows[0]?.json ?? "null");
}

/** Who runs an intake. */
export interface IntakeHolder {
  readonly worker: string;
  readonly host: string;
  readonly pid: number;
  readonly connected: boolean;
  /** Why it is not, or what it waits for. */
  readonly trouble: string | null;
}

/** A line of posthorn.intakes. Times are ISO 8601. */
export interface IntakeLine {
  readonly name: string;
  readonly service: string;
  /** The kind of the broker, and where it is, without a credential. */
  readonly broker: string;
  readonly place: string;
  /** Messages are pushed to it: every worker that declares it runs it. */
  readonly pushed: boolean;
  /** Who runs it: one at most, or many where it is pushed to. */
  readonly holders: readonly IntakeHolder[];
  /** As long as one of them is. */
  readonly connected: boolean;
  /** Since when it is not connected; null while it is. */
  readonly awaySince: string | null;
  /** Why it is not, or what it waits for, as whoever runs it says. */
  readonly trouble: string | null;
  /** Since when nobody runs it; null while somebody does. */
  readonly stoppedAt: string | null;
  readonly received: number;
  readonly written: number;
  readonly duplicates: number;
  /** That were ever put into the list of invalid messages; `listed`: that are in it. */
  readonly invalid: number;
  readonly listed: number;
  /** Passed over: by `otherTypes: "skip"`, or by `read`. */
  readonly skipped: number;
  /** The type of the last that `otherTypes` passed over, and when; null while there is none. */
  readonly skippedType: string | null;
  readonly skippedAt: string | null;
  readonly lastMessageAt: string | null;
  /** Turned away before it could become a message, by a broker that is pushed to: a webhook without a right signature. Nothing is stored of it. */
  readonly refused: number;
  /** When that happened last, and why; null once it has not happened for a while. */
  readonly refusedAt: string | null;
  readonly refusal: string | null;
  readonly paused: { readonly at: string; readonly by: string; readonly reason?: string } | null;
  readonly contracts: readonly string[];
}

export async function intakeLines(executor: Executor): Promise<readonly IntakeLine[]> {
  const { rows } = await mapped(
    executor.query<{ lines: string }>(
      `select coalesce(json_agg(json_build_object('name', name, 'service', service, 'broker', broker, 'place', place,
  'pushed', pushed, 'holders', holders, 'connected', connected,
  'awaySince', away_since, 'trouble', trouble, 'stoppedAt', stopped_at, 'received', received, 'written', written, 'duplicates', duplicates, 'invalid', invalid,
  'listed', listed, 'skipped', skipped, 'skippedType', skipped_type, 'skippedAt', skipped_at, 'lastMessageAt', last_message_at,
  'refused', refused, 'refusedAt', refused_at, 'refusal', refusal,
  'paused', case when paused_at is not null then json_strip_nulls(json_build_object('at', paused_at, 'by', paused_by, 'reason', paused_reason)) end,
  'contracts', contracts) order by name), '[]')::text as lines
from posthorn.intakes`,
    ),
  );
  return JSON.parse(rows[0]?.lines ?? "[]");
}

/** What an intake recognises what comes in by. */
export interface Inbox {
  readonly intake: string;
  readonly place: string;
  /** What its marks are made of. */
  readonly names: readonly string[];
}

export function inboxes(executor: Executor): Promise<readonly Inbox[]> {
  return jsonOf(executor, "inboxes()", []);
}

/** What intakes know of a message by what its sender calls it. Times are ISO 8601. */
export interface FoundOutside {
  /** `at`: about, as long as the intake kept its marks then for as long as it does now. */
  readonly takenIn: readonly { readonly intake: string; readonly at: string; readonly keptUntil: string }[];
  /** The newest 20 of the list of invalid messages; `id` as `UnfitEntry` has it. */
  readonly invalid: readonly { readonly intake: string; readonly id: string; readonly foundAt: string }[];
}

/** `marks`: what it would be recognised by, of each intake. */
export function findOutside(
  executor: Executor,
  id: string,
  source: string | undefined,
  marks: readonly { readonly intake: string; readonly mark: string }[],
): Promise<FoundOutside> {
  return jsonOf(executor, "find_outside($1::text, $2::text, $3::json)", [id, source ?? null, JSON.stringify(marks)]);
}

export interface UnfitFilter {
  readonly id?: string;
  readonly intake?: string;
  /** The highest id that counts. */
  readonly upto?: string;
  /** Only those of which a message of the same identity was taken in. */
  readonly takenIn?: true;
  /** Only those of intakes that nobody runs. */
  readonly unrun?: true;
}

/** An entry of the list of invalid messages of an intake. */
export interface UnfitEntry {
  readonly id: string;
  readonly intake: string;
  readonly reason: string;
  readonly source: string | null;
  /** The id of the CloudEvent. */
  readonly event: string | null;
  readonly type: string | null;
  readonly contentType: string | null;
  readonly key: string | null;
  readonly brokerId: string | null;
  readonly position: string | null;
  readonly foundAt: string;
  /** How often it came, as far as its id did not tell. */
  readonly times: number;
  readonly lastAt: string;
  readonly bytes: number;
  readonly whole: boolean;
  /** It waits to be read again. */
  readonly redriveAt: string | null;
  readonly redriveBy: string | null;
  /** A message of the same identity was taken in: redriven it is a duplicate, and not written. */
  readonly takenIn: boolean;
  readonly headers: Readonly<Record<string, string>> | null;
  /** Base64; null without `full`. */
  readonly body: string | null;
}

/** The newest entries; with `full` also headers and body. */
export function unfitEntries(
  executor: Executor,
  filter: UnfitFilter,
  limit: number,
  full = false,
): Promise<readonly UnfitEntry[]> {
  return jsonOf(executor, "unfit_list($1::json, $2::int)", [JSON.stringify({ ...filter, full }), limit]);
}

export function countUnfit(
  executor: Executor,
  filter: UnfitFilter,
): Promise<{ readonly count: number; readonly upto: string | null }> {
  return jsonOf(executor, "unfit_count($1::json)", [JSON.stringify(filter)]);
}

/** Has entries be read again by whoever runs their intake. Returns how many. */
export function redriveUnfit(executor: Executor, filter: UnfitFilter, by: string): Promise<number> {
  return jsonOf(executor, "unfit_redrive($1::json, $2::text)", [JSON.stringify(filter), by]);
}

/** Removes entries for good. Returns how many. */
export function discardUnfit(executor: Executor, filter: UnfitFilter, by: string, reason: string): Promise<number> {
  return jsonOf(executor, "unfit_discard($1::json, $2::text, $3::text)", [JSON.stringify(filter), by, reason]);
}
