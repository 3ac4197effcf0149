/**
 * Writing messages: one statement for any number of them, in the caller's transaction.
 *
 * The insert lies in a function whose plan is kept: sent as text it would be planned each time, which costs several times the insert.
 * Columns go as lists, payloads as one JSON text, so that they are stored as said.
 */
import { randomFillSync } from "node:crypto";
import type { Executor, OpenTransaction, Statement } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { calling, literalsOf } from "./literals.js";
import { mapped, sentences } from "./sqlstate.js";
import { wakingWith } from "./wake.js";

/** A message as it will be stored; `json` and `headers` are JSON text. */
export interface Outgoing {
  readonly contract: number;
  readonly channel: number;
  /** Of the channel; absent for one. */
  readonly lanes?: number | undefined;
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
  /** Where dedupe of the mode drop is all that was said: its window. */
  readonly dropWithinMs: number | undefined;
  /** Contract and key of what counts as the same request. */
  readonly once: string | undefined;
}

/** Messages of one contract that are alike but for their payloads and keys. */
export interface Alike {
  readonly contract: number;
  readonly channel: number;
  /** Of the channel; absent for one. */
  readonly lanes?: number | undefined;
  readonly headers: string | null;
  readonly count: number;
  /** The payloads as one JSON list. */
  readonly list: string;
  /** Null where none has any. */
  readonly keys: readonly string[] | null;
}

/** Sequence number and nonce as text. */
export interface Place {
  readonly id: string;
  readonly nonce: string;
}

/** Where messages were written, in their order; an array is one. */
export interface Places {
  readonly length: number;
  at(index: number): Place | undefined;
}

/** Where an insert of ours wrote messages, and in which transaction. A place is made when it is asked for: few ever are. */
export class Written implements Places {
  readonly xid: string;
  /** One for each; or the first, where they have no gap. */
  readonly #ids: readonly string[] | bigint;
  readonly #nonces: BigInt64Array;

  /** `answer`: what write_one and write_many return. Ids, or the first and the last of many without a gap, and the transaction. */
  constructor(answer: string, nonces: BigInt64Array) {
    const ids = answer.split(" ");
    this.xid = ids.pop() ?? "";
    const [first = "", last] = ids[0]?.split(":") ?? [];
    this.#ids = last === undefined ? ids : BigInt(first);
    this.#nonces = nonces;
    const count = last === undefined ? ids.length : Number(BigInt(last) - BigInt(first)) + 1;
    if (count !== nonces.length) {
      throw errorOf("PH_INTERNAL", "A written message is missing from the answer of the insert.");
    }
  }

  get length(): number {
    return this.#nonces.length;
  }

  at(index: number): Place {
    const id = typeof this.#ids === "bigint" ? this.#ids + BigInt(index) : this.#ids[index];
    const nonce = this.#nonces[index];
    if (id === undefined || nonce === undefined) throw errorOf("PH_INTERNAL", `No message ${index} was written.`);
    return { id: String(id), nonce: String(nonce) };
  }
}

/**
 * What posthorn.append takes: payloads are embedded as they are, so that they are stored as said. A list; or, where some messages have options,
 * what posthorn.append_said takes. Messages of one call have the same options, so each is written once.
 */
export function asList(messages: readonly Outgoing[], nonces: BigInt64Array): string {
  const options = new Map<string, number>();
  let list = "[";
  messages.forEach((message, i) => {
    const key = message.key === null ? "null" : JSON.stringify(message.key);
    const headers = message.headers === null ? "" : `,"h":${message.headers}`;
    const extras = message.extras === undefined ? "" : extrasIn(message.extras, options);
    list += `${i === 0 ? "" : ","}{"n":"${nonces[i]}","ch":${addressOf(message)},"c":${message.contract},"k":${key},"p":${message.json}${headers}${extras}}`;
  });
  return options.size === 0 ? `${list}]` : `{"said":${list}],"options":[${[...options.keys()].join(",")}]}`;
}

function extrasIn({ json, dedupeKey }: Extras, options: Map<string, number>): string {
  const index = options.get(json) ?? options.size;
  options.set(json, index);
  return dedupeKey === undefined ? `,"o":${index}` : `,"o":${index},"dk":${JSON.stringify(dedupeKey)}`;
}

/** Random numbers in stock: asking for a few costs as much as for many. */
let stock = new BigInt64Array(0);
let used = 0;

/** Random signed 64-bit numbers: with the id each makes a public id that nobody can guess. */
export function nonces(count: number): BigInt64Array {
  if (stock.length - used < count) {
    stock = randomFillSync(new BigInt64Array(Math.max(count, 512)));
    used = 0;
  }
  used += count;
  return stock.subarray(used - count, used);
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
 */
export async function writeMessages(executor: Executor, messages: readonly Outgoing[]): Promise<Place[]> {
  if (haveExtras(messages)) return [...(await writeSaid(executor, messages)).places];
  const places: Place[] = [];
  for (let from = 0; from < messages.length; from += limits.batchMessages) {
    const batch = messages.slice(from, from + limits.batchMessages);
    const written = await write(executor, batch.length, columnsOf(batch), null);
    for (let i = 0; i < written.length; i += 1) places.push(written.at(i));
  }
  return places;
}

/** The same as the last statement of a transaction of ours, in one round trip with its COMMIT. */
export async function commitMessages(open: OpenTransaction, messages: readonly Outgoing[]): Promise<Place[]> {
  if (haveExtras(messages)) {
    const { places } = await writeSaid(open, messages);
    await mapped(open.commit());
    return [...places];
  }
  const from = Math.max(0, messages.length - limits.batchMessages);
  const places = await writeMessages(open, messages.slice(0, from));
  const last = messages.slice(from);
  const own = nonces(last.length);
  const statement = last.length === 0 ? undefined : writing(own, columnsOf(last), null);
  const [row] = await mapped(open.commit<{ written: string }>(statement));
  const written = row === undefined ? undefined : new Written(row.written, own);
  for (let i = 0; written !== undefined && i < written.length; i += 1) places.push(written.at(i));
  return places;
}

function haveExtras(messages: readonly Outgoing[]): boolean {
  return messages.some(({ extras }) => extras !== undefined);
}

/** Where messages with options were written, in their order. Of one that was dropped it is the place of the message that stands for it. */
export interface SaidMessages {
  readonly xid: string;
  readonly places: readonly Place[];
}

const writeSaidAll = "select posthorn.write_said($1::text, $2::json) as written";

/**
 * As `writeMessages`, where some have options. A statement locks its keys of dedupe in one order. Where there are several statements, those that
 * count as the same as others come last and in the order of their keys, over all of them: two calls with the same keys wait for each other and never
 * in a ring. `home` as in `writeAlike`.
 */
export async function writeSaid(
  executor: Executor,
  messages: readonly Outgoing[],
  home: string | null = null,
): Promise<SaidMessages> {
  const order = messages.map(({ extras }, i) => ({ i, once: Buffer.from(extras?.once ?? "") }));
  // Else they stay as they were said: a queue may keep that order.
  if (order.length > limits.batchMessages) order.sort((a, b) => Buffer.compare(a.once, b.once) || a.i - b.i);
  const written: Place[] = [];
  let xid = "";
  for (let from = 0; from < order.length; from += limits.batchMessages) {
    const piece = order.slice(from, from + limits.batchMessages).map(({ i }) => i);
    const sent = piece.flatMap((i) => messages[i] ?? []);
    const { places, xid: id } = await writeSaidBatch(executor, sent, home);
    xid = id;
    for (const [k, place] of places.entries()) {
      const i = piece[k];
      if (i !== undefined) written[i] = place;
    }
  }
  return { xid, places: written };
}

async function writeSaidBatch(
  executor: Executor,
  messages: readonly Outgoing[],
  home: string | null,
): Promise<SaidMessages> {
  const own = nonces(messages.length);
  try {
    const { text, params } = writingOnce(messages, own, home) ?? {
      text: writeSaidAll,
      params: [home, asList(messages, own)],
    };
    const { rows } = await mapped(executor.query<{ written: string }>(text, params));
    const written = rows[0]?.written ?? "";
    if (written.startsWith(away)) throw movedAway(written);
    if (written === "elsewhere") throw elsewhere();
    if (!written.startsWith("{")) {
      const one = new Written(written, own);
      return { xid: one.xid, places: [one.at(0)] };
    }
    const answer: { readonly places: readonly SaidPlace[]; readonly xid: string } = JSON.parse(written);
    return { xid: answer.xid, places: placesOf(answer.places, own) };
  } catch (error) {
    if (isConflict(error)) throw conflict(error);
    throw home !== null && isUndefined(error) ? elsewhere(error) : error;
  }
}

const writingOnceOnly = {
  name: "write_once",
  column: " as written",
  text: "select posthorn.write_once($1::text, $2::bigint, $3::int, $4::int, $5::text, $6::json, $7::json, $8::text, $9::bigint) as written",
};

/** One message whose key of dedupe is most likely new: a function of its own writes it, or does as write_said. */
function writingOnce(messages: readonly Outgoing[], own: BigInt64Array, home: string | null): Statement | undefined {
  const [message] = messages;
  const { dropWithinMs, dedupeKey } = message?.extras ?? {};
  if (message === undefined || messages.length > 1 || dropWithinMs === undefined || dedupeKey === undefined)
    return undefined;
  const columns = columnsOf(messages);
  return calling(writingOnceOnly, [home, String(own[0]), ...columns, dedupeKey, dropWithinMs]);
}

/** In the order of the nonces that the messages were said with. */
function placesOf(places: readonly SaidPlace[], own: BigInt64Array): Place[] {
  const byNonce = placesByNonce(places);
  return Array.from(own, (nonce) => {
    const place = byNonce.get(String(nonce));
    if (place === undefined)
      throw errorOf("PH_INTERNAL", "A written message is missing from the answer of the insert.");
    return place;
  });
}

/** Serialization failure, deadlock: nothing is wrong with what was said. */
export function isConflict(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return code === "40001" || code === "40P01";
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

/** Messages of one contract in one statement. `home` holds an executor that somebody else brought to the database that the ids are from. */
export function writeAlike(executor: Executor, messages: Alike, home: string | null = null): Promise<Written> {
  return write(executor, messages.count, columnsOfAlike(messages), home);
}

/** As posthorn.address: which lane a message goes to is decided where it is written. */
function addressOf({ channel, lanes = 1 }: Pick<Outgoing, "channel" | "lanes">): number {
  return channel | ((lanes - 1) << 21);
}

function columnsOfAlike(messages: Alike): readonly (string | number | null)[] {
  const { count, contract, keys, list, headers } = messages;
  const channel = addressOf(messages);
  if (count === 1) return [channel, contract, keys?.[0] ?? null, list.slice(1, -1), headers];
  return [
    `{${channel}}`,
    `{${contract}}`,
    keys && JSON.stringify(keys),
    list,
    headers && `[${Array(count).fill(headers).join(",")}]`,
  ];
}

/** As `writeAlike`, as the last statement of a transaction of ours, in one round trip with its COMMIT. */
export async function commitAlike(open: OpenTransaction, messages: Alike): Promise<Written> {
  const own = nonces(messages.count);
  const [row] = await mapped(open.commit<{ written: string }>(writing(own, columnsOfAlike(messages), null)));
  return new Written(row?.written ?? "", own);
}

/** Channel and contract once where all have the same, keys and headers not at all where none has any. */
function columnsOf(messages: readonly Outgoing[]): readonly (string | number | null)[] {
  const [first] = messages;
  if (first !== undefined && messages.length === 1) {
    return [addressOf(first), first.contract, first.key, first.json, first.headers];
  }
  return listsOf(messages);
}

/** The columns as lists: channels, contracts, keys, payloads, headers. */
export function listsOf(messages: readonly Outgoing[]): readonly (string | null)[] {
  const [first] = messages;
  let [alike, keyed, headed] = [true, false, false];
  const payloads: string[] = [];
  for (const { contract, key, json, headers } of messages) {
    if (contract !== first?.contract) alike = false;
    if (key !== null) keyed = true;
    if (headers !== null) headed = true;
    payloads.push(json);
  }
  const shown = alike ? messages.slice(0, 1) : messages;
  return [
    `{${shown.map(addressOf).join(",")}}`,
    `{${shown.map(({ contract }) => contract).join(",")}}`,
    keyed ? JSON.stringify(messages.map(({ key }) => key)) : null,
    listIn(payloads),
    headed ? listIn(messages.map(({ headers }) => headers ?? "null")) : null,
  ];
}

/** JSON texts as one list. The brackets go to its ends before they are put together: a long text that is made of others is copied once more when it is sent. */
function listIn(texts: string[]): string {
  if (texts.length === 0) return "[]";
  texts[0] = `[${texts[0]}`;
  texts[texts.length - 1] += "]";
  return texts.join(",");
}

/** The statement for as many messages as there are nonces. `columns` are values for one message, and lists for more. */
function writing(own: BigInt64Array, columns: readonly (string | number | null)[], home: string | null): Statement {
  if (own.length > 1) return { text: writeMany, params: [home, `{${own.join(",")}}`, ...columns] };
  const params = [home, String(own[0]), ...columns];
  const literals = literalsOf(params);
  return literals === undefined
    ? { text: writeOne, params }
    : { text: `select posthorn.write_one(${literals}) as written` };
}

/**
 * One message in a transaction of its own that tells the workers of it, and of what `channels` names besides. `heard`: whether one was there to
 * listen.
 */
export async function writeAndWake(
  executor: Executor,
  message: Alike,
  channels: Iterable<number>,
): Promise<{ readonly written: Written; readonly heard: boolean }> {
  const own = nonces(1);
  const { text, params } = writing(own, columnsOfAlike(message), null);
  const { rows } = await mapped(
    executor.query<{ written: string; heard: boolean }>(`${text}, ${wakingWith(channels)} as heard`, params),
  );
  return { written: new Written(rows[0]?.written ?? "", own), heard: rows[0]?.heard === true };
}

async function write(
  executor: Executor,
  count: number,
  columns: readonly (string | number | null)[],
  home: string | null,
): Promise<Written> {
  const own = nonces(count);
  const { text, params } = writing(own, columns, home);
  try {
    const { rows } = await mapped(executor.query<{ written: string }>(text, params));
    const written = rows[0]?.written ?? "";
    if (written.startsWith(away)) throw movedAway(written);
    if (written === "elsewhere") throw elsewhere();
    return new Written(written, own);
  } catch (error) {
    throw home !== null && isUndefined(error) ? elsewhere(error) : error;
  }
}

/** No such schema, function or table. */
function isUndefined(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return code === "3F000" || code === "42883" || code === "42P01";
}

/** The start of an answer that says why nothing was written; the rest is JSON. */
const away = "moved ";

function movedAway(answer: string): Error {
  const why: { readonly detail: string; readonly says: string; readonly hint: string } = JSON.parse(
    answer.slice(away.length),
  );
  return errorOf("PH_DATABASE_MOVED", sentences(why.says, why.hint), { detail: why.detail });
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
