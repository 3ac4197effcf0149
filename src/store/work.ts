/**
 * What a worker says to the database: claim, take, settle, end. Every call is one statement and one transaction of its own, except
 * `endInTransaction`, which is the last statement of a handler's transaction.
 */
import type { Executor, OpenTransaction, Statement } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { type DeferredRow, type Delivery, fromDeferred, fromLog, type Hold, type LogRow } from "./delivery.js";
import { calling, literalsOf } from "./literals.js";
import { type Place, placesByNonce } from "./publish.js";
import { mapped } from "./sqlstate.js";
import { parseVerbatim } from "./verbatim.js";

export type { Delivery } from "./delivery.js";

export type Outcome =
  | "succeeded"
  | "failed"
  | "postponed"
  | "released"
  | "rejected"
  | "invalid"
  | "skipped"
  | "begun"
  | "parked"
  | "expired";

/** A part of a claim that has ended, or begun. `messages` absent: all of the claim. */
export interface Part {
  readonly claim: string;
  readonly token: string;
  readonly slot: number;
  readonly part: number;
  readonly outcome: Outcome | null;
  readonly closes: boolean;
  readonly messages?: readonly string[];
}

/** What becomes of a delivery that did not simply succeed; null for nothing more. */
export type Next =
  | { readonly defer: { readonly delayMs: number; readonly attempts: number; readonly crashes: number } }
  | {
      readonly dead: {
        readonly reason: string;
        readonly keepMs: number;
        readonly attempts: number;
        readonly crashes: number;
      };
    }
  | { readonly invalid: readonly unknown[] }
  | { readonly result: StoredResult }
  | null;

/** What a handler returned, as JSON text, and how long it is kept. */
export interface StoredResult {
  readonly text: string;
  readonly keepMs: number;
  /** Whose it is, for whoever erases a key when the log has the message no more. */
  readonly key?: string;
  readonly contract?: number;
}

export interface End {
  readonly delivery: Delivery;
  readonly outcome: Outcome;
  /** One attempt for the history, or undefined where none was made. */
  readonly entry?: Readonly<Record<string, unknown>>;
  readonly next: Next;
  /** Whether the end is a row of its own (transaction mode); otherwise a part in the same call has ended it. */
  readonly ends: boolean;
}

/** What the limits of the fleet said; absent where they were no obstacle. */
export interface Permitted {
  /** In how many milliseconds it pays to ask again. */
  readonly waitMs?: number;
  /** In how many milliseconds the first waiting delivery is due. */
  readonly dueMs?: number | null;
}

export interface Taken extends Permitted {
  readonly deliveries: readonly Delivery[];
  /** The circuit is open, and is to be looked at again after so many milliseconds. */
  readonly openMs?: number;
  /** When the next one is due; undefined when the answer was full or nothing waits. */
  readonly nextInMs?: number | undefined;
}

export interface Claimed extends Taken {
  /** Another session was claiming this lane. */
  readonly missed: boolean;
  /** Another lane has something as well. */
  readonly more?: boolean;
  /** Where order is kept: the next message must wait for one that runs. */
  readonly blocked?: boolean;
  /** Something was taken and put aside; there may be more. */
  readonly again?: boolean;
  /** Parts of the claim that are written already. */
  readonly parts?: number;
  /** Messages of the claim that were put aside for the limits of their keys. */
  readonly aside?: number;
}

/** What a take answers. */
interface TakeAnswer {
  readonly taken?: readonly DeferredRow[];
  readonly next?: number | null;
  readonly waitMs?: number | null;
  readonly dueMs?: number | null;
  readonly openMs?: number;
  readonly probe?: string | null;
}

interface ClaimAnswer extends Omit<TakeAnswer, "taken" | "next"> {
  readonly missed?: boolean;
  readonly more?: boolean;
  readonly blocked?: boolean;
  readonly again?: boolean;
  readonly claim?: string;
  readonly token?: string;
  readonly slot?: number;
  readonly parts?: number;
  readonly aside?: number;
  /** Ids of messages that are in the list and not of the claim. */
  readonly skipped?: readonly string[];
  readonly messages?: readonly LogRow[];
}

const working = {
  name: "work",
  column: " as claimed",
  text: "select posthorn.work($1::int, $2::int, $3::bigint, $4::int, $5::json) as claimed",
};

/** Settles parts and claims the next messages of a lane, in one transaction. `verbatim`: payloads as the JSON text that was stored. */
export async function work(
  executor: Executor,
  subscription: number,
  worker: string,
  limit: number,
  parts: readonly Part[],
  verbatim = false,
): Promise<Claimed> {
  return (await askForWork(executor, subscription, worker, limit, parts, verbatim))();
}

/**
 * The same for whoever has something to do before it reads the answer, such as to ask for more: reading takes the processor for as long as the
 * database takes for the next one.
 */
export async function askForWork(
  executor: Executor,
  subscription: number,
  worker: string,
  limit: number,
  parts: readonly Part[],
  verbatim: boolean,
): Promise<() => Claimed> {
  const { text, params } = calling(working, [
    subscription,
    0,
    worker,
    limit,
    parts.length === 0 ? null : JSON.stringify(parts),
  ]);
  const { rows } = await mapped(executor.query<{ claimed: string }>(text, params));
  return () => claimedBy(subscription, parsed(rows[0]?.claimed ?? "{}", verbatim));
}

function claimedBy(subscription: number, answer: ClaimAnswer): Claimed {
  const { claim, token, slot, parts: written, aside, messages, probe } = answer;
  if (claim === undefined || token === undefined || slot === undefined || messages === undefined) {
    const { missed, blocked, again } = answer;
    const nothing = { missed: missed === true, blocked: blocked === true, again: again === true, deliveries: [] };
    return { ...nothing, ...refused(answer) };
  }
  const skipped = new Set(answer.skipped);
  const taken = skipped.size === 0 ? messages : messages.filter(([id]) => !skipped.has(id));
  const deliveries = fromLog(subscription, { from: "log", claim, token, claimSlot: slot }, taken);
  return {
    missed: false,
    more: answer.more === true,
    parts: written ?? 0,
    aside: aside ?? 0,
    deliveries: asProbe(deliveries, probe),
    ...refused(answer),
  };
}

type Answer = TakeAnswer & ClaimAnswer;

function parsed(text: string, verbatim: boolean): Answer {
  return verbatim ? parseVerbatim<Answer>(text, ({ messages, taken }) => messages ?? taken ?? []) : JSON.parse(text);
}

/** What the database said about later. */
function refused({ waitMs, dueMs, openMs }: Omit<TakeAnswer, "taken" | "next">): Permitted & Pick<Taken, "openMs"> {
  return {
    ...(typeof waitMs === "number" && { waitMs, dueMs: dueMs ?? null }),
    ...(typeof openMs === "number" && { openMs }),
  };
}

function asProbe(deliveries: readonly Delivery[], probe: string | null | undefined): readonly Delivery[] {
  return typeof probe === "string" ? deliveries.map((delivery) => ({ ...delivery, probe })) : deliveries;
}

/** Takes deliveries that are due: retries, what was scheduled, and what was handed back. */
export async function takeDue(
  executor: Executor,
  subscription: number,
  worker: string,
  contracts: readonly number[],
  limit: number,
  verbatim = false,
): Promise<Taken> {
  const { rows } = await mapped(
    executor.query<{ taken: string }>(
      "select posthorn.take_due($1::int, $2::bigint, $3::json, $4::int)::text as taken",
      [subscription, worker, JSON.stringify(contracts), limit],
    ),
  );
  const answer: TakeAnswer = parsed(rows[0]?.taken ?? "{}", verbatim);
  const deliveries = fromDeferred(subscription, answer.taken ?? []);
  return { deliveries: asProbe(deliveries, answer.probe), nextInMs: answer.next ?? undefined, ...refused(answer) };
}

const settling = {
  name: "settle",
  column: "::text as said",
  text: "select posthorn.settle($1::json, $2::json, $3::json)::text as said",
};

/**
 * Settles what a worker holds; `say` is a list as `asList` makes it. All or nothing; `ClaimLostError` when any of it is lost.
 * Waits for the disk when there are ends or something was said: those must not be lost with a crash of the server.
 */
export async function settle(
  executor: Executor,
  parts: readonly Part[],
  ends: readonly End[],
  say: string | null,
): Promise<ReadonlyMap<string, Place>> {
  const { text, params } = calling(settling, [
    parts.length === 0 ? null : JSON.stringify(parts),
    ends.length === 0 ? null : JSON.stringify(ends.map(endAsJson)),
    say,
  ]);
  const { rows } = await mapped(executor.query<{ said: string | null }>(text, params));
  return placesOf(rows[0]?.said ?? null);
}

/** Writes, on disk when it returns, that runs begin; after it nobody else runs them. */
export async function begin(executor: Executor, parts: readonly Part[]): Promise<void> {
  await mapped(
    executor.query("select posthorn.settle($1::json, $2::json, null)", [JSON.stringify(parts), JSON.stringify([])]),
  );
}

/** Ends a delivery, as the last statement of its handler's transaction, and commits. `open.mark` is needed. */
export async function endAndCommit(
  open: OpenTransaction,
  delivery: Delivery,
  say: string | null,
): Promise<ReadonlyMap<string, Place>> {
  const [row] = await mapped(open.commit<{ said: string | null }>(endStatement(delivery, open.mark, say)));
  return placesOf(row?.said ?? null);
}

/**
 * The last statement of a handler's transaction. `mark`: of the transaction, by which the server knows it again.
 *
 * Its values are in the text, which costs less; what names the delivery is numbers, which the database gave us, and anything else is refused.
 */
export function endStatement(delivery: Delivery, mark: string, say: string | null): Statement {
  const ended = endValues(delivery, mark).join(", ");
  const said = literalsOf([say]);
  return said !== undefined
    ? { text: `select posthorn.end_in_transaction(${ended}, ${said})::text as said` }
    : { text: `select posthorn.end_in_transaction(${ended}, $1::json)::text as said`, params: [say] };
}

/** What names a delivery and its hold where it is ended, as literals. */
export function endValues(delivery: Delivery, mark: string): readonly string[] {
  const { hold } = delivery;
  const log = hold.from === "log" ? hold : undefined;
  const values = [
    delivery.subscription,
    delivery.id,
    log?.messageSlot,
    delivery.delivery,
    log?.claim,
    log?.claimSlot,
    hold.from === "deferred" ? hold.deferred : undefined,
    hold.token,
  ];
  return [...values, mark].map(numeral);
}

export function numeral(value: string | number | undefined): string {
  if (value === undefined) return "null";
  const text = String(value);
  // In quotes, so that the function's parameter gives the type.
  if (/^-?\d+(\.\d+)?$/.test(text)) return `'${text}'`;
  throw errorOf("PH_INTERNAL", "A number was expected where a delivery is ended.");
}

/** The places of what was said, by the nonces that it was said with. */
export function placesOf(said: string | null): ReadonlyMap<string, Place> {
  return placesByNonce(said === null ? [] : JSON.parse(said));
}

function endAsJson({ delivery, outcome, entry, next, ends }: End): Record<string, unknown> {
  const { hold } = delivery;
  const stepped = outcome === "succeeded" ? delivery.stepped : undefined;
  const common = { outcome, message: delivery.id, entry, next, token: hold.token, stepped };
  if (hold.from === "deferred") return { ...common, deferred: hold.deferred };
  // A result of a delivery from the log goes straight to its table.
  const { subscription, nonce } = delivery;
  const place = next !== null && "result" in next ? { subscription, nonce } : {};
  return { ...common, ...place, claim: hold.claim, claimSlot: hold.claimSlot, messageSlot: hold.messageSlot, ends };
}

/** What a peek found: subscriptions with something in the log, and when waiting deliveries of a subscription are due. */
export interface Peeked {
  readonly snapshot: string;
  readonly ready: readonly number[];
  readonly due: readonly (readonly [subscription: number, inMs: number])[];
  /** Some worker counts as dead; false as well when nobody asked. */
  readonly dead: boolean;
  /** Somebody asked to cancel what may run here; false as well when nobody asked. */
  readonly cancels: boolean;
}

const peeking = {
  name: "peek",
  column: "::text as found",
  text: "select posthorn.peek($1::bigint, $2::json, $3::text, $4::boolean)::text as found",
};

/** Looks whether there is anything to do, in one statement for all subscriptions. `seen`: the snapshot of an earlier empty peek of the same. */
export async function peek(
  executor: Executor,
  worker: string,
  subscriptions: readonly number[],
  seen: string | null,
  watch: boolean,
): Promise<Peeked> {
  const { text, params } = calling(peeking, [worker, JSON.stringify(subscriptions), seen, String(watch)]);
  const { rows } = await mapped(executor.query<{ found: string }>(text, params));
  return JSON.parse(rows[0]?.found ?? "null");
}

/** A claim that has been open too long, and what is to be moved out of it. */
export interface Spill {
  readonly claim: string;
  readonly slot: number;
  readonly token: string;
  readonly part: number;
  readonly closes: boolean;
  readonly worker: string;
  readonly running: readonly string[];
  readonly waiting: readonly string[];
}

/**
 * Moves messages out of an open claim, so that its lane goes on: those that run stay with their holder, as the first of their parked keys.
 * Settles `parts` before, in one transaction. Returns the new holds by message. Errors: `ClaimLostError`; then nothing was done.
 */
export async function spill(
  executor: Executor,
  parts: readonly Part[],
  what: Spill,
): Promise<ReadonlyMap<string, Hold>> {
  const { rows } = await mapped(
    executor.query<{ held: string }>("select posthorn.spill($1::json, $2::json)::text as held", [
      parts.length === 0 ? null : JSON.stringify(parts),
      JSON.stringify(what),
    ]),
  );
  const held: [string, string, string][] = JSON.parse(rows[0]?.held ?? "[]");
  return new Map(held.map(([message, deferred, token]) => [message, { from: "deferred", deferred, token }]));
}

/** Makes the next message of each key due. Returns how many are. */
export async function promote(executor: Executor, subscription: number, keys: readonly string[]): Promise<number> {
  const { rows } = await mapped(
    executor.query<{ promoted: number }>("select posthorn.promote($1::int, $2::json) as promoted", [
      subscription,
      JSON.stringify(keys),
    ]),
  );
  return rows[0]?.promoted ?? 0;
}
