/** Questions about messages and queues, for receipts and people. */
import type { Executor } from "../core/database.js";
import type { State } from "../core/states.js";
import type { CircuitFacts } from "./circuit.js";
import { mapped } from "./sqlstate.js";

/** One attempt of a message, as kept in its history. */
export interface HistoryEntry {
  readonly attempt: number;
  readonly outcome: string;
  readonly worker?: { readonly id: string; readonly service: string; readonly host: string; readonly pid: number };
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly error?: { readonly name: string; readonly message: string; readonly code?: string; readonly stack?: string };
  /** What was said beside an error, or why the handler put the message off. */
  readonly note?: string;
  /** Of a message that was put off several times in a row: how often, and when first. */
  readonly times?: number;
  readonly firstAt?: string;
}

/** What became of a message for one receiver. */
export interface ReceiverStatus {
  readonly subscription: string;
  readonly state: State;
  readonly delivery?: number;
  readonly attempts?: number | null;
  readonly crashes?: number | null;
  readonly dueAt?: string | null;
  readonly reason?: string | null;
  readonly history?: readonly HistoryEntry[];
  readonly contract?: string;
  readonly kind?: "command" | "event";
  /** While it runs: what its handler told last. */
  readonly progress?: unknown;
  /** While it runs: when somebody asked to cancel it. */
  readonly cancelRequestedAt?: string;
  /** What its handler returned, as it is stored, for as long as it is kept. */
  readonly result?: unknown;
}

/** Whether a text can be the id of a message: what `publicId` makes and posthorn.id_of reads. */
export function isPublicId(id: unknown): id is string {
  return typeof id === "string" && /^[0-9]{1,18}-[0-9a-f]{16}$/.test(id);
}

/** The states of a message for all its receivers; null when no message has this id. */
export async function messageStatus(executor: Executor, publicId: string): Promise<readonly ReceiverStatus[] | null> {
  const { rows } = await mapped(
    executor.query<{ status: string | null }>("select posthorn.message_status($1::text)::text as status", [publicId]),
  );
  const status = rows[0]?.status ?? null;
  return status === null ? null : JSON.parse(status);
}

/** A rate as the database knows it. */
export interface KnownRate {
  readonly messages: number;
  readonly perMs: number;
  readonly burst: number;
}

/** Limits of a queue or subscription and how they stand; what is not limited is absent. */
export interface LimitsNow {
  readonly rateLimit?: KnownRate;
  readonly keyRateLimit?: KnownRate;
  readonly fleetConcurrency?: number;
  readonly keyConcurrency?: number;
  readonly backlogLimit?: { readonly messages: number; readonly whenFull: "reject" | "wait"; readonly waitMs: number };
  /** Messages that may begin at once by the rate. */
  readonly permits?: number;
  /** Messages that run in the whole fleet; counted where that is limited. */
  readonly running?: number;
  /** Messages that were put aside because of their keys' limits. */
  readonly putAside?: number;
  /** Whether producers are refused. */
  readonly full?: boolean;
}

/** A line of posthorn.backlog. Ages in milliseconds. */
export interface BacklogLine {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly backlog: number;
  readonly retrying: number;
  readonly running: number;
  readonly ageMs: number;
  readonly deadLetters: number;
  readonly invalid: number;
  readonly workers: number;
  readonly unattended: boolean;
  /** Null for one without limits. */
  readonly limits: LimitsNow | null;
  /** Null where the policy declares no breaker. */
  readonly circuit: CircuitFacts | null;
  /** Null while it is not paused. */
  readonly paused: { readonly at: string; readonly by: string; readonly reason?: string } | null;
  /** The broker that a relay sends to; null for one that has handlers. */
  readonly relay: { readonly broker: string; readonly where: string } | null;
}

export async function backlog(executor: Executor): Promise<readonly BacklogLine[]> {
  const { rows } = await mapped(
    executor.query<{ lines: string }>(
      `select coalesce(json_agg(json_build_object('name', name, 'kind', kind, 'channel', channel, 'backlog', backlog, 'retrying', retrying,
  'running', running, 'ageMs', age_ms, 'deadLetters', dead_letters, 'invalid', invalid, 'workers', workers, 'unattended', unattended,
  'limits', limits, 'relay', relay,
  'paused', case when paused_at is not null then json_strip_nulls(json_build_object('at', paused_at, 'by', paused_by, 'reason', paused_reason)) end,
  'circuit', (select posthorn.circuit_of(s.id) from posthorn.subscription s where s.name = b.name and s.has_breaker)) order by name), '[]')::text as lines
from posthorn.backlog b`,
    ),
  );
  return JSON.parse(rows[0]?.lines ?? "[]");
}
