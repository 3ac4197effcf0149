/** Schedules as the database knows them: what is declared, what is due, and the one statement that sends. Times are in milliseconds. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

async function jsonOf<T>(executor: Executor, call: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(
    executor.query<{ json: string | null }>(`select posthorn.${call}::text as json`, params),
  );
  return JSON.parse(rows[0]?.json ?? "null");
}

const iso = (at: number): string => new Date(at).toISOString();

/** The clock that decides, and what is known of a schedule. */
export interface ScheduleNow {
  readonly now: number;
  readonly cron: string | null;
  readonly timeZone: string | null;
  readonly nextAt: number | null;
  readonly lastAt: number | null;
}

export function scheduleNow(executor: Executor, name: string): Promise<ScheduleNow> {
  return jsonOf(executor, "schedule_now($1::text)", [name]);
}

export interface ScheduleEntry {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly contract: number;
  readonly missed: string;
  readonly jitterMs: number;
  /** JSON text; null where a function computes it. */
  readonly payload: string | null;
  readonly key: string | null;
  readonly headers: string | null;
  readonly function: string | null;
  readonly service: string;
  readonly next: number;
  readonly due: number;
}

export interface DeclaredSchedule {
  /** Changes with what is declared. */
  readonly revision: number;
  /** What was declared before, where it is another. */
  readonly before: {
    readonly service: string;
    readonly cron: string;
    readonly timeZone: string;
    /** The names of the options that differ. Payloads are in no log, so their values are not here. */
    readonly changed: readonly string[];
  } | null;
}

/** Declares a schedule; the newest start wins. Errors: `ContractConflictError` where another service has the name for another command. */
export function declareSchedule(executor: Executor, entry: ScheduleEntry): Promise<DeclaredSchedule> {
  return jsonOf(
    executor,
    "declare_schedule($1::text, $2::text, $3::text, $4::int, $5::text, $6::int, $7::json, $8::text, $9::json, $10::text, $11::text, $12::timestamptz, $13::timestamptz)",
    [
      entry.name,
      entry.cron,
      entry.timeZone,
      entry.contract,
      entry.missed,
      entry.jitterMs,
      entry.payload,
      entry.key,
      entry.headers,
      entry.function,
      entry.service,
      iso(entry.next),
      iso(entry.due),
    ],
  );
}

export interface DueSchedule {
  readonly name: string;
  readonly revision: number;
  readonly cron: string;
  readonly timeZone: string;
  readonly missed: "skip" | "once" | "all";
  readonly jitterMs: number;
  readonly nextAt: number;
  /** A function of the process that declared this revision makes the payload. */
  readonly computed: boolean;
  /** Of the payload, where it is the same each time. */
  readonly bytes: number;
}

export interface DueSchedules {
  readonly now: number;
  readonly due: readonly DueSchedule[];
  /** Until the next is due; null where there is none. */
  readonly waitMs: number | null;
}

/** What is due. `own`: the revisions, by name, whose payloads this process can compute. */
export function dueSchedules(
  executor: Executor,
  own: Readonly<Record<string, number>>,
  limit: number,
): Promise<DueSchedules> {
  return jsonOf(executor, "due_schedules($1::json, $2::int)", [JSON.stringify(own), limit]);
}

/** A command of a schedule; `json` and `key` only where they were computed. */
export interface Timed {
  readonly at: number;
  readonly json?: string;
  readonly key?: string | null;
}

export interface Fired {
  readonly messages: number;
  readonly channel: number;
}

/** What is to be sent of a schedule that was found due. */
export interface Firing {
  readonly schedule: Pick<DueSchedule, "name" | "revision" | "nextAt">;
  readonly messages: readonly Timed[];
  /** Its next time, and when that is due. */
  readonly upcoming: number;
  readonly due: number;
}

/**
 * Sends the commands and moves the schedules on, in one transaction. For each in its order null when another process was faster, or the
 * schedule has changed.
 */
export function fireSchedules(executor: Executor, firings: readonly Firing[]): Promise<readonly (Fired | null)[]> {
  const list = firings.map(({ schedule, messages, upcoming, due }) => {
    const { name, revision, nextAt } = schedule;
    const facts = { name, revision, next: iso(nextAt), upcoming: iso(upcoming), due: iso(due) };
    return `${JSON.stringify(facts).slice(0, -1)},"messages":[${messages.map(asMessage).join(",")}]}`;
  });
  return jsonOf(executor, "fire_schedules($1::json)", [`[${list.join(",")}]`]);
}

/** Payloads are embedded as they are, so that they are stored as said. */
function asMessage({ at, json, key }: Timed): string {
  const made = json === undefined ? "" : `,"k":${JSON.stringify(key ?? null)},"p":${json}`;
  return `{"at":"${iso(at)}"${made}}`;
}

/** Keeps why a command could not be made, for whoever lists the schedules. */
export async function noteScheduleFailure(
  executor: Executor,
  { name, revision }: DueSchedule,
  error: string,
): Promise<void> {
  await mapped(
    executor.query("select posthorn.note_schedule_failure($1::text, $2::bigint, $3::text)", [name, revision, error]),
  );
}

export interface ListedSchedule {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly command: string;
  readonly missed: "skip" | "once" | "all";
  readonly jitterMs: number;
  readonly computed: boolean;
  readonly nextAt: string;
  readonly dueAt: string;
  readonly overdue: boolean;
  readonly lastAt: string | null;
  /** The public id of the newest message. */
  readonly lastMessage: string | null;
  readonly error: string | null;
  readonly failedAt: string | null;
  readonly service: string;
  readonly declaredAt: string;
}

/** All schedules by name. Overdue is what nobody has sent `lateMs` after it was due. */
export function listSchedules(executor: Executor, lateMs: number): Promise<readonly ListedSchedule[]> {
  return jsonOf(executor, "list_schedules($1::int)", [lateMs]);
}

/** False where no schedule has this name. */
export function removeSchedule(executor: Executor, name: string): Promise<boolean> {
  return jsonOf(executor, "remove_schedule($1::text)", [name]);
}
