/** The way in, as whoever runs an intake knows it: who runs it, what was taken in once, and what fitted nothing. */
import type { Executor } from "../core/database.js";
import { listsOf, nonces, type Outgoing } from "./publish.js";
import { mapped } from "./sqlstate.js";

async function jsonOf<T>(executor: Executor, call: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(executor.query<{ json: string }>(`select posthorn.${call}::text as json`, params));
  return JSON.parse(rows[0]?.json ?? "null");
}

export interface IntakeEntry {
  readonly name: string;
  readonly broker: string;
  /** Where the broker is, without a credential. */
  readonly place: string;
  readonly keepMs: number;
  readonly awayMs: number;
  /** From how many refused or invalid messages on an alert says it. */
  readonly bounds: { readonly refused: number; readonly invalid: number };
  /** With the owner that the contract itself names. */
  readonly contracts: readonly { readonly name: string; readonly owner: string | null }[];
}

/** What a process learns of an intake that it declares. */
export interface BegunIntake {
  readonly id: number;
  /** When it was made, as the database has it, where it was not there before: what it is taken back by. */
  readonly made: string | null;
  /** What the marks of its messages are made of, those of what is taken in now first. */
  readonly names: readonly string[];
}

/** Makes an intake or brings it up to date. Errors: `ContractConflictError`. */
export function beginIntake(executor: Executor, entry: IntakeEntry, service: string): Promise<BegunIntake> {
  const { name, broker, place, keepMs, awayMs, bounds, contracts } = entry;
  return jsonOf(
    executor,
    "begin_intake($1::text, $2::text, $3::text, $4::text, $5::float8, $6::float8, $7::json, $8::json)",
    [name, service, broker, place, keepMs, awayMs, JSON.stringify(contracts), JSON.stringify(bounds)],
  );
}

/** Takes back what was made for a start that is refused; not where another process has registered it since. */
export async function withdrawIntake(executor: Executor, { id, made }: BegunIntake): Promise<void> {
  if (made === null) return;
  await mapped(executor.query("select posthorn.withdraw_intake($1::int, $2::text::numeric)", [id, made]));
}

/** What was turned away before it could become a message. */
export interface RefusedReport {
  /** Since the worker holds the intake. */
  readonly total: number;
  /** Of what looked like a sender that means this intake, without a long pause in between; null while there is none, as what follows. */
  readonly now: number | null;
  readonly agoMs: number | null;
  readonly why: string | null;
}

/** What a worker says of an intake of its process. */
export interface IntakeReport {
  readonly id: number;
  /** It is to be run here. */
  readonly wants: boolean;
  /** What it would be read from here: of two processes that say different brokers, the one that runs it is right. */
  readonly broker?: string;
  readonly place?: string;
  readonly connected: boolean;
  /** Why it is not, or does not go on. */
  readonly trouble: string | null;
  /** Messages are pushed to it: it is held by all who want it. */
  readonly pushed?: boolean;
  /** Of one that is pushed to. */
  readonly refused?: RefusedReport;
}

export interface IntakeAnswer {
  readonly id: number;
  readonly held: boolean;
  readonly paused: boolean;
  /** Something is to be read again. */
  readonly redrive: boolean;
  /** It was removed or renamed since it was declared. */
  readonly gone?: boolean;
}

export function holdIntakes(
  executor: Executor,
  worker: string,
  reports: readonly IntakeReport[],
): Promise<readonly IntakeAnswer[]> {
  return jsonOf(executor, "hold_intakes($1::bigint, $2::json)", [worker, JSON.stringify(reports)]);
}

/** A message that is to be written once. */
export interface Marked extends Outgoing, Marks {}

/** What a message is recognised by: 16 bytes each, in hexadecimal. */
export interface Marks {
  readonly mark: string;
  /** Under former names of the intake: as many for each message of a call. */
  readonly former?: readonly string[] | undefined;
}

/** A message that fits nothing. */
export interface Unfit extends Marks {
  /** Whether its mark is that of its own identity, and not of its content. One with an identity leaves it to a message that fits. */
  readonly once: boolean;
  readonly reason: string;
  readonly source: string | null;
  readonly event: string | null;
  readonly type: string | null;
  readonly contentType: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly key: string | null;
  readonly brokerId: string | null;
  readonly position: string | null;
  /** Base64. */
  readonly body: string;
  readonly bytes: number;
  /** Whether body and headers are all of it. */
  readonly whole: boolean;
}

export interface TakenIn {
  /** The rest were duplicates. */
  readonly written: number;
  readonly invalid: number;
  /** The places of the invalid ones that are new; null where none was given. */
  readonly noted: readonly number[] | null;
  /** Whether the intake has ever written anything; null where the batch has no type that was passed over. */
  readonly everWritten: boolean | null;
}

/** Who writes for which intake. */
export interface Holding {
  readonly intake: number;
  readonly worker: string;
}

/** A batch as the statement that writes it takes it: beside its messages, so that these need not be kept until it is written. */
export interface Packed {
  readonly params: readonly (string | number | null)[];
}

/**
 * `skipped` is for the statistics, and so is `skippedType`, that of the last of them whose type no contract has. Made of the same messages twice it is not the same: each has
 * numbers of its own.
 */
export function pack(
  messages: readonly Marked[],
  invalid: readonly Unfit[],
  skipped: number,
  skippedType: string | null = null,
): Packed {
  return {
    params: [
      listOf(messages.map(({ mark }) => mark)),
      `{${nonces(messages.length).join(",")}}`,
      ...listsOf(messages),
      invalid.length === 0 ? null : JSON.stringify(invalid),
      skipped,
      formerOf(messages),
      skippedType,
    ],
  };
}

/** A list of what needs no quotes, as PostgreSQL reads it. */
function listOf(items: readonly string[]): string {
  return `{${items.join(",")}}`;
}

/** Null for an intake without former names. */
function formerOf(messages: readonly Marked[]): string | null {
  if (messages[0]?.former === undefined) return null;
  return listOf(messages.flatMap(({ former = [] }) => former));
}

/**
 * Writes what is new of a batch, in its order.
 *
 * Transaction: one of its own, on disk when it returns. What it throws may have been committed all the same: taken in again, it is absorbed.
 * Errors: `ClaimLostError` when another worker runs the intake, `BacklogFullError`; then nothing was written.
 */
export function takeIn(executor: Executor, { intake, worker }: Holding, { params }: Packed): Promise<TakenIn> {
  return jsonOf(
    executor,
    "take_in($1::int, $2::bigint, $3::text::uuid[], $4::text::bigint[], $5::text::int[], $6::text::int[], $7::json, $8::json, $9::json, $10::json, $11::int, $12::text::uuid[], $13::text)",
    [intake, worker, ...params],
  );
}

/** An entry that is to be read again. */
export interface UnfitAgain {
  readonly id: string;
  readonly contentType: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly key: string | null;
  readonly brokerId: string | null;
  readonly position: string | null;
  /** Base64. */
  readonly body: string;
  readonly whole: boolean;
}

export function unfitAgain(executor: Executor, intake: number, limit: number): Promise<readonly UnfitAgain[]> {
  return jsonOf(executor, "unfit_again($1::int, $2::int)", [intake, limit]);
}

/** An entry that fits now. */
export interface Fitting {
  readonly id: string;
  readonly message: Marked;
}

/** What became of entries that were read again. */
export interface ReadAgain {
  readonly written: number;
  /** Those of which a message of the same identity had been taken in: they ended as duplicates. */
  readonly absorbed: readonly string[];
}

/**
 * Writes entries that fit now and whose identity is new, and removes all that fit, and those of which a message was taken in; keeps the reasons of the others.
 * One without a reason is passed over.
 *
 * Transaction and errors: as `takeIn`; an entry is written by whoever removes it.
 */
export function readAgain(
  executor: Executor,
  { intake, worker }: Holding,
  fitting: readonly Fitting[],
  unfit: readonly { readonly id: string; readonly reason: string | null; readonly marks?: readonly string[] }[],
): Promise<ReadAgain> {
  const messages = fitting.map(({ message }) => message);
  return jsonOf(
    executor,
    "read_again($1::int, $2::bigint, $3::text::bigint[], $4::text::uuid[], $5::text::bigint[], $6::text::int[], $7::text::int[], $8::json, $9::json, $10::json, $11::json, $12::text::uuid[])",
    [
      intake,
      worker,
      `{${fitting.map(({ id }) => id).join(",")}}`,
      listOf(messages.map(({ mark }) => mark)),
      `{${nonces(messages.length).join(",")}}`,
      ...listsOf(messages),
      JSON.stringify(unfit),
      formerOf(messages),
    ],
  );
}

/** Removes what has been kept for its time from some pages of the inbox; whether it is behind. */
export async function sweepInbox(executor: Executor, pages: number): Promise<boolean> {
  const { rows } = await mapped(
    executor.query<{ behind: boolean }>("select posthorn.sweep_inbox($1::int) as behind", [pages]),
  );
  return rows[0]?.behind === true;
}
