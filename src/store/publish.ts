/**
 * Writing messages: one statement for any number of them, in the caller's transaction.
 *
 * The insert lies in a function whose plan is kept: sent as text it would be planned each time, which costs several times the insert.
 * Columns go as lists, payloads as one JSON text, so that they are stored as said.
 */
import { randomBytes } from "node:crypto";
import type { Executor, OpenTransaction } from "../core/database.js";
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

/** The list that posthorn.append takes: payloads are embedded as they are, so that they are stored as said. */
export function asList(messages: readonly Outgoing[], nonces: readonly string[]): string {
  let list = "[";
  messages.forEach((message, i) => {
    const key = message.key === null ? "null" : JSON.stringify(message.key);
    const headers = message.headers === null ? "" : `,"h":${message.headers}`;
    list += `${i === 0 ? "" : ","}{"n":"${nonces[i]}","ch":${message.channel},"c":${message.contract},"k":${key},"p":${message.json}${headers}}`;
  });
  return `${list}]`;
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
  if (messages.length <= limits.batchMessages) return writeBatch(executor, messages, home);
  const places: Written[] = [];
  for (let from = 0; from < messages.length; from += limits.batchMessages) {
    places.push(...(await writeBatch(executor, messages.slice(from, from + limits.batchMessages), home)));
  }
  return places;
}

/** The same as the last statement of a transaction of ours, in one round trip with its COMMIT. */
export async function commitMessages(open: OpenTransaction, messages: readonly Outgoing[]): Promise<Written[]> {
  const from = Math.max(0, messages.length - limits.batchMessages);
  const places = await writeMessages(open, messages.slice(0, from));
  const last = messages.slice(from);
  const own = nonces(last.length);
  const statement = last.length === 0 ? undefined : writing(last, own, null);
  const [row] = await mapped(open.commit<{ written: string }>(statement));
  return row === undefined ? places : [...places, ...placesIn(row.written, own)];
}

function writing(messages: readonly Outgoing[], own: readonly string[], home: string | null) {
  const [first] = messages;
  if (first !== undefined && messages.length === 1)
    return { text: writeOne, params: [home, ...own, ...columnsOfOne(first)] };
  return { text: writeMany, params: [home, `{${own.join(",")}}`, ...columnsOf(messages)] };
}

async function writeBatch(executor: Executor, messages: readonly Outgoing[], home: string | null): Promise<Written[]> {
  if (messages.length === 0) return [];
  const own = nonces(messages.length);
  const { text, params } = writing(messages, own, home);
  try {
    const { rows } = await mapped(executor.query<{ written: string }>(text, params));
    const written = rows[0]?.written ?? "";
    if (written === "moved") throw moved();
    if (written === "elsewhere") throw elsewhere();
    return placesIn(written, own);
  } catch (error) {
    throw home !== null && isUndefined(error) ? elsewhere(error) : error;
  }
}

function columnsOfOne({ channel, contract, key, json, headers }: Outgoing) {
  return [channel, contract, key, json, headers];
}

/** Channel and contract once where all have the same, keys and headers not at all where none has any. */
function columnsOf(messages: readonly Outgoing[]) {
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
