/** What operators order: pauses at once, the rest in pieces that anybody can go on with. Each call is one statement and one transaction. */
import type { Executor } from "../core/database.js";
import type { LetterFilter } from "./operate.js";
import { mapped } from "./sqlstate.js";

export type Verb = "pause" | "resume" | "purge" | "redrive" | "discard" | "replay" | "erase" | "remove" | "rename";

/** Something that was ordered, and how far it is. Times are ISO 8601. */
export interface Operation {
  /** Its number. */
  readonly operation: string;
  readonly verb: Verb;
  /** The queue, subscription or intake that it is about; absent for all. */
  readonly target?: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly by: string;
  readonly reason?: string;
  readonly begunAt: string;
  readonly touchedAt: string;
  readonly endedAt?: string;
  /** `interrupted`: nobody has gone on with it for 30 seconds. `stopped`: somebody ended it where it was. */
  readonly state: "running" | "interrupted" | "done" | "stopped";
  /** Messages that it found when it began. */
  readonly found: number;
  /** Messages that it has done. */
  readonly done: number;
  /** Of a replay: messages of its time that are not replayed, by why. */
  readonly passed?: { readonly waiting: number; readonly ended: number; readonly unhandled: number };
}

export interface Ordered {
  readonly by: string;
  readonly reason?: string | undefined;
}

export interface Pause {
  readonly at: string;
  readonly by: string;
  readonly reason?: string;
}

export interface PauseChange extends Partial<Pause> {
  readonly name: string;
  /** False where it was so already. */
  readonly changed: boolean;
}

/** What has not ended of a queue or subscription. */
export interface Unsettled {
  readonly name: string;
  /** In the log, or handed back. */
  readonly waiting: number;
  readonly scheduled: number;
  readonly retrying: number;
  readonly parked: number;
  readonly running: number;
  /** Of those that are parked: their key waits for an operator. */
  readonly stuck: number;
  readonly paused: Pause | null;
  readonly workers: number;
}

export type WaitingState = "queued" | "scheduled" | "retrying" | "parked";

export interface ListedSubscription {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly service: string | null;
  readonly since: string;
  readonly declaredAt: string | null;
  readonly paused: Pause | null;
  /** Messages of the log that it has not read. */
  readonly unread: number;
  readonly workers: number;
}

/** What would go with a subscription. */
export interface Remaining {
  readonly name: string;
  readonly unread: number;
  readonly waiting: number;
  readonly parked: number;
  readonly deadLetters: number;
  readonly invalid: number;
}

/** What would go with an intake. */
export interface RemainingOfIntake {
  readonly name: string;
  readonly invalid: number;
}

async function jsonOf<T>(executor: Executor, call: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(executor.query<{ json: string }>(`select posthorn.${call}::text as json`, params));
  return JSON.parse(rows[0]?.json ?? "null");
}

export function pause(executor: Executor, name: string, { by, reason }: Ordered): Promise<PauseChange> {
  return jsonOf(executor, "pause($1::text, $2::text, $3::text)", [name, by, reason ?? null]);
}

export function resume(executor: Executor, name: string, { by }: Ordered): Promise<PauseChange> {
  return jsonOf(executor, "resume($1::text, $2::text)", [name, by]);
}

export function unsettled(executor: Executor, name: string): Promise<Unsettled> {
  return jsonOf(executor, "unsettled($1::text)", [name]);
}

/** Whether everything has ended, at one moment. */
export function isDrained(executor: Executor, name: string): Promise<boolean> {
  return jsonOf(executor, "is_drained($1::text)", [name]);
}

/** How many messages a purge would end now. */
export function purgeable(executor: Executor, name: string, states: readonly WaitingState[]): Promise<number> {
  return jsonOf(executor, "purgeable($1::text, array(select json_array_elements_text($2::json)))", [
    name,
    JSON.stringify(states),
  ]);
}

export function beginPurge(
  executor: Executor,
  name: string,
  { by, reason }: Ordered,
  states: readonly WaitingState[],
  confirm: string | null,
): Promise<Operation> {
  return jsonOf(
    executor,
    "purge($1::text, $2::text, $3::text, $4::text, array(select json_array_elements_text($5::json)))",
    [name, by, reason ?? null, confirm, JSON.stringify(states)],
  );
}

/** Entries of a list that a filter finds now, in the order of the list. */
export function beginLetters(
  executor: Executor,
  verb: "redrive" | "discard",
  filter: LetterFilter,
  { by, reason }: Ordered,
): Promise<Operation> {
  return jsonOf(executor, "begin_letters($1::text, $2::json, $3::text, $4::text)", [
    verb,
    JSON.stringify(filter),
    by,
    reason ?? null,
  ]);
}

export interface ReplayRange {
  /** ISO 8601. */
  readonly from: string;
  /** ISO 8601; without it until now. */
  readonly to?: string | undefined;
  readonly contract?: string | undefined;
}

export function beginReplay(
  executor: Executor,
  name: string,
  { from, to, contract }: ReplayRange,
  { by, reason }: Ordered,
  confirm: string | null,
): Promise<Operation> {
  return jsonOf(
    executor,
    "replay($1::text, $2::timestamptz, $3::timestamptz, $4::text, $5::text, $6::text, $7::text)",
    [name, from, to ?? null, by, reason ?? null, confirm, contract ?? null],
  );
}

/** How many messages were said in the time of a replay. */
export function replayable(
  executor: Executor,
  name: string,
  { from, to, contract }: ReplayRange,
): Promise<{ readonly count: number; readonly oldestKept: string | null }> {
  return jsonOf(executor, "replayable($1::text, $2::timestamptz, $3::timestamptz, $4::text)", [
    name,
    from,
    to ?? null,
    contract ?? null,
  ]);
}

export interface ErasedMessages {
  readonly contract?: string | undefined;
  readonly channel?: string | undefined;
}

/** How many messages of the log have a key. */
export function erasable(executor: Executor, key: string, { contract, channel }: ErasedMessages): Promise<number> {
  return jsonOf(executor, "erasable($1::text, $2::text, $3::text)", [key, contract ?? null, channel ?? null]);
}

export function beginErase(
  executor: Executor,
  key: string,
  { contract, channel }: ErasedMessages,
  { by, reason }: Ordered,
  confirm: string | null,
): Promise<Operation> {
  return jsonOf(executor, "erase($1::text, $2::text, $3::text, $4::text, $5::text, $6::text)", [
    key,
    by,
    reason ?? null,
    confirm,
    contract ?? null,
    channel ?? null,
  ]);
}

export function listSubscriptions(executor: Executor): Promise<readonly ListedSubscription[]> {
  return jsonOf(executor, "subscriptions()", []);
}

export function remaining(executor: Executor, name: string): Promise<Remaining> {
  return jsonOf(executor, "remaining($1::text)", [name]);
}

export function beginRemove(
  executor: Executor,
  name: string,
  { by, reason }: Ordered,
  confirm: string | null,
): Promise<Operation> {
  return jsonOf(executor, "remove_subscription($1::text, $2::text, $3::text, $4::text)", [
    name,
    by,
    reason ?? null,
    confirm,
  ]);
}

export function remainingOfIntake(executor: Executor, name: string): Promise<RemainingOfIntake> {
  return jsonOf(executor, "remaining_of_intake($1::text)", [name]);
}

export function beginRemoveIntake(
  executor: Executor,
  name: string,
  { by, reason }: Ordered,
  confirm: string | null,
): Promise<Operation> {
  return jsonOf(executor, "remove_intake($1::text, $2::text, $3::text, $4::text)", [name, by, reason ?? null, confirm]);
}

/** What became of an intake that was given another name. */
export interface RenamedIntake {
  readonly from: string;
  readonly to: string;
  /** One of that name was known already: the two have become one. */
  readonly joined: boolean;
  /** What fitted nothing, now in the list of `to`. */
  readonly invalid: number;
  /** Of the one that was renamed: its service, the kind of its broker, and where that is, without a credential. */
  readonly service: string;
  readonly broker: string;
  readonly place: string;
}

export function renameIntake(
  executor: Executor,
  from: string,
  to: string,
  { by, reason }: Ordered,
): Promise<RenamedIntake> {
  return jsonOf(executor, "rename_intake($1::text, $2::text, $3::text, $4::text)", [from, to, by, reason ?? null]);
}

/** The next piece of an operation. `busy`: somebody else is at it, or it waits for what runs; it pays to ask again a little later. */
export function proceed(
  executor: Executor,
  operation: string,
  limit: number,
): Promise<Operation & { readonly busy?: boolean }> {
  return jsonOf(executor, "proceed($1::bigint, $2::int)", [operation, limit]);
}

/** Ends an operation where it is; false where it does not run. */
export function stopOperation(executor: Executor, operation: string): Promise<boolean> {
  return jsonOf(executor, "stop_operation($1::bigint)", [operation]);
}

/** The record, the newest first; `unfinished` alone those that run or were interrupted. */
export function operations(executor: Executor, limit: number, unfinished: boolean): Promise<readonly Operation[]> {
  return jsonOf(executor, "operations($1::int, $2::boolean)", [limit, unfinished]);
}
