/**
 * Writing messages: one statement for any number of them, in the caller's transaction.
 *
 * The insert lies in a function whose plan is kept: sent as text it would be planned each time, which costs several times the insert.
 * Columns go as lists, payloads as one JSON text, so that they are stored as said.
 */
import { randomBytes } from "node:crypto";
import type { Executor } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { mapped } from "./sqlstate.js";

/** A message as it will be stored; `json` and `headers` are JSON text. */
export interface Outgoing {
  readonly contract: number;
  readonly channel: number;
  readonly key: string | null;
  readonly json: string;
  readonly headers: string | null;
  /** What was said beside the payload; undefined for most. */
  readonly extras?: Extras | undefined;
}

/** What a producer says beside the payload, checked. */
export interface Extras {
  /** As posthorn.options_of reads it, as JSON text; without the key of dedupe. */
  readonly json: string;
  readonly dedupeKey: string | undefined;
  readonly priority: number;
  /** It may have to wait outside the log. */
  readonly waits: boolean;
  /** Contract and key of what counts as the same request. */
  readonly once: string | undefined;
}

/** Sequence number and nonce as text. */
export interface Place {
  readonly id: string;
  readonly nonce: string;
}

/** Where a message was written by an insert of ours, and in which transaction. */
export interface Written extends Place {
  readonly xid: string;
}

/**
 * What posthorn.append takes: payloads are embedded as they are, so that they are stored as said. A list; or, where some messages have options,
 * what posthorn.append_said takes. Messages of one call have the same options, so each is written once.
 */
export function asList(messages: readonly Outgoing[], nonces: readonly string[]): string {
  const options = new Map<string, number>();
  let list = "[";
  messages.forEach((message, i) => {
    const key = message.key === null ? "null" : JSON.stringify(message.key);
    const headers = message.headers === null ? "" : `,"h":${message.headers}`;
    const extras = message.extras === undefined ? "" : extrasIn(message.extras, options);
    list += `${i === 0 ? "" : ","}{"n":"${nonces[i]}","ch":${message.channel},"c":${message.contract},"k":${key},"p":${message.json}${headers}${extras}}`;
  });
  return options.size === 0 ? `${list}]` : `{"said":${list}],"options":[${[...options.keys()].join(",")}]}`;
}

function extrasIn({ json, dedupeKey }: Extras, options: Map<string, number>): string {
  const index = options.get(json) ?? options.size;
  options.set(json, index);
  return dedupeKey === undefined ? `,"o":${index}` : `,"o":${index},"dk":${JSON.stringify(dedupeKey)}`;
}

/** Random bytes in stock: asking for a few costs as much as for many. */
let stock = new Uint8Array(0);
let used = 0;

/** Random signed 64-bit numbers as text: with the id each makes a public id that nobody can guess. */
export function nonces(count: number): string[] {
  if (stock.length - used < 8 * count) {
    stock = randomBytes(Math.max(8 * count, 4_096));
    used = 0;
  }
  const view = new DataView(stock.buffer, stock.byteOffset + used, 8 * count);
  used += 8 * count;
  return Array.from({ length: count }, (_, i) => view.getBigInt64(8 * i).toString());
}

const writeOne =
  "select posthorn.write_one($1::text, $2::bigint, $3::int, $4::int, $5::text, $6::json, $7::json) as written";
const writeMany =
  "select posthorn.write_many($1::text, $2::text::bigint[], $3::text::int[], $4::text::int[], $5::json, $6::json, $7::json) as written";

/** Names the database that an executor writes to. Ids of contracts mean something in this one only. */
export async function homeOf(executor: Executor): Promise<string | null> {
  const { rows } = await executor.query<{ home: string }>(
    "select system_identifier || '/' || database as home from posthorn.ring",
  );
  return rows[0]?.home ?? null;
}

/**
 * Writes the messages and returns their places in the order given.
 *
 * Transaction: runs on `executor` alone; visible with its commit. More than `limits.batchMessages` take several statements.
 * `home` holds an executor that somebody else brought to the database that the ids of the messages are from.
 */
export async function writeMessages(
  executor: Executor,
  messages: readonly Outgoing[],
  home: string | null = null,
): Promise<Written[]> {
  if (messages.some(({ extras }) => extras !== undefined)) return writeSaid(executor, messages, home);
  if (messages.length <= limits.batchMessages) return writeBatch(executor, messages, home);
  const places: Written[] = [];
  for (let from = 0; from < messages.length; from += limits.batchMessages) {
    places.push(...(await writeBatch(executor, messages.slice(from, from + limits.batchMessages), home)));
  }
  return places;
}

async function writeBatch(executor: Executor, messages: readonly Outgoing[], home: string | null): Promise<Written[]> {
  const [first] = messages;
  if (first === undefined) return [];
  const own = nonces(messages.length);
  const single = messages.length === 1;
  const columns = single ? columnsOfOne(first) : columnsOf(messages);
  const nonce = single ? own[0] : `{${own.join(",")}}`;
  try {
    const statement = single ? writeOne : writeMany;
    const { rows } = await mapped(executor.query<{ written: string }>(statement, [home, nonce, ...columns]));
    const written = rows[0]?.written ?? "";
    if (written === "moved") throw moved();
    if (written === "elsewhere") throw elsewhere();
    return placesIn(written, own);
  } catch (error) {
    throw home !== null && isUndefined(error) ? elsewhere(error) : error;
  }
}

const writeSaidAll = "select posthorn.write_said($1::text, $2::json) as written";

/**
 * The same for messages of which some have options. Those that count as the same as others come last and in the order of their keys, over all
 * statements: two calls with the same keys wait for each other and never in a ring.
 */
async function writeSaid(executor: Executor, messages: readonly Outgoing[], home: string | null): Promise<Written[]> {
  const order = messages.map(({ extras }, i) => ({ i, once: Buffer.from(extras?.once ?? "") }));
  order.sort((a, b) => Buffer.compare(a.once, b.once) || a.i - b.i);
  const written: Written[] = [];
  for (let from = 0; from < order.length; from += limits.batchMessages) {
    const piece = order.slice(from, from + limits.batchMessages).map(({ i }) => i);
    const sent = piece.flatMap((i) => messages[i] ?? []);
    const places = await writeSaidBatch(executor, sent, home);
    for (const [k, place] of places.entries()) {
      const i = piece[k];
      if (i !== undefined) written[i] = place;
    }
  }
  return written;
}

async function writeSaidBatch(
  executor: Executor,
  messages: readonly Outgoing[],
  home: string | null,
): Promise<readonly Written[]> {
  const own = nonces(messages.length);
  try {
    const { rows } = await mapped(executor.query<{ written: string }>(writeSaidAll, [home, asList(messages, own)]));
    const written = rows[0]?.written ?? "";
    if (written === "moved") throw moved();
    if (written === "elsewhere") throw elsewhere();
    const { places, xid }: { readonly places: readonly SaidPlace[]; readonly xid: string } = JSON.parse(written);
    const byNonce = placesByNonce(places);
    return own.map((nonce) => {
      const place = byNonce.get(nonce);
      if (place === undefined)
        throw errorOf("PH_INTERNAL", "A written message is missing from the answer of the insert.");
      return { ...place, xid };
    });
  } catch (error) {
    if (isConflict(error)) throw conflict(error);
    throw home !== null && isUndefined(error) ? elsewhere(error) : error;
  }
}

/** Serialization failure, deadlock: nothing is wrong with what was said. */
export function isConflict(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return code === "40001" || code === "40P01";
}

/** Somebody held a lock for longer than the statement would wait. */
export function isLockTimeout(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "55P03";
}

function conflict(cause: unknown): Error {
  return errorOf(
    "PH_TRANSACTION_CONFLICT",
    "Another transaction said the same dedupe key at the same time. Nothing was written; roll back and repeat the transaction.",
    {},
    cause,
  );
}

/** What posthorn.append returns for a message: its nonce, the id, and the nonce of the id where another message may stand for this one. */
export type SaidPlace = readonly [said: string, id: string, nonce?: string];

/** Places by the nonces that messages were said with. */
export function placesByNonce(places: readonly SaidPlace[]): ReadonlyMap<string, Place> {
  return new Map(places.map(([said, id, nonce]) => [said, { id, nonce: nonce ?? said }]));
}

/** The channels to be told. Below zero where something may wait outside the log: its reader looks there, too. */
export function channelsOf(messages: readonly Outgoing[]): Set<number> {
  const channels = new Set<number>();
  for (const { channel, extras } of messages) {
    channels.add(channel);
    if (extras?.waits) channels.add(-channel);
  }
  return channels;
}

function columnsOfOne({ channel, contract, key, json, headers }: Outgoing): readonly unknown[] {
  return [channel, contract, key, json, headers];
}

/** Channel and contract once where all have the same, keys and headers not at all where none has any. */
function columnsOf(messages: readonly Outgoing[]): readonly unknown[] {
  const alike = messages.every(({ contract }) => contract === messages[0]?.contract);
  const shown = alike ? messages.slice(0, 1) : messages;
  const keyed = messages.some(({ key }) => key !== null);
  const headed = messages.some(({ headers }) => headers !== null);
  return [
    `{${shown.map(({ channel }) => channel).join(",")}}`,
    `{${shown.map(({ contract }) => contract).join(",")}}`,
    keyed ? JSON.stringify(messages.map(({ key }) => key)) : null,
    `[${messages.map(({ json }) => json).join(",")}]`,
    headed ? `[${messages.map(({ headers }) => headers ?? "null").join(",")}]` : null,
  ];
}

/** Reads what write_one and write_many return: ids, or the first and the last of many without a gap, and the transaction. */
function placesIn(written: string, own: readonly string[]): Written[] {
  const parts = written.split(" ");
  const xid = parts.pop() ?? "";
  const [first, last] = parts[0]?.split(":") ?? [];
  let ids: readonly string[] = parts;
  if (first !== undefined && last !== undefined) {
    const from = BigInt(first);
    ids = own.map((_, i) => (from + BigInt(i)).toString());
  }
  return own.map((nonce, i) => {
    const id = ids[i];
    if (id === undefined) throw errorOf("PH_INTERNAL", "A written message is missing from the answer of the insert.");
    return { id, nonce, xid };
  });
}

/** No such schema, function or table. */
function isUndefined(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return code === "3F000" || code === "42883" || code === "42P01";
}

function moved(): Error {
  return errorOf(
    "PH_DATABASE_MOVED",
    "This database was restored or moved: its transaction ids belong to another server. Nothing was written; it must be rebased first.",
  );
}

function elsewhere(cause?: unknown): Error {
  return errorOf(
    "PH_TRANSACTION_UNKNOWN",
    "post.in() was given a transaction of another database than this instance's. Nothing was written. Pass one of the same database, or use an instance for that one.",
    {},
    cause,
  );
}

/** The id of a message as people and programs see it; the same as posthorn.public_id. */
export function publicId(place: Place): string {
  return `${place.id}-${BigInt.asUintN(64, BigInt(place.nonce)).toString(16).padStart(16, "0")}`;
}
