/**
 * Writing messages: one plain insert for any number of them, in the caller's transaction, into the slot of the ring that is open.
 *
 * The slot's number is part of the statement and checked inside it, together with the identity of the server: after a rotation
 * or on a restored copy nothing is written, and the reason is read. A statement that writes nothing fails no transaction.
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

/** A random signed 64-bit number as text: with the id it makes a public id that nobody can guess. */
function nonce(): string {
  return randomBytes(8).readBigInt64BE().toString();
}

/** The list that the insert and posthorn.append take: payloads are embedded as they are, so that they are stored as said. */
export function asList(messages: readonly Outgoing[], nonces: readonly string[]): string {
  let list = "[";
  messages.forEach((message, i) => {
    const key = message.key === null ? "null" : JSON.stringify(message.key);
    const headers = message.headers === null ? "" : `,"h":${message.headers}`;
    list += `${i === 0 ? "" : ","}{"n":"${nonces[i]}","ch":${message.channel},"c":${message.contract},"k":${key},"p":${message.json}${headers}}`;
  });
  return `${list}]`;
}

export function nonces(count: number): string[] {
  return Array.from({ length: count }, nonce);
}

function statement(slot: number): string {
  return `insert into posthorn.message_${slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
select pg_current_xact_id(), nextval('posthorn.message_id'), r.n, clock_timestamp(), r.ch, 0, r.c, r.k, coalesce(r.p, 'null'::json), r.h
from json_to_recordset($1::json) as r(n bigint, ch int, c int, k text, p json, h json)
where (select g.slot = ${slot} and posthorn.is_here(g.system_identifier, g.database)
  and coalesce(g.system_identifier || '/' || g.database = $2::text, true) from posthorn.ring g)
returning id::text as id, nonce::text as nonce, xid::text as xid`;
}

/** Names the database that an executor writes to. Ids of contracts mean something in this one only. */
export async function homeOf(executor: Executor): Promise<string | null> {
  const { rows } = await executor.query<{ home: string }>(
    "select system_identifier || '/' || database as home from posthorn.ring",
  );
  return rows[0]?.home ?? null;
}

/** Knows which slot is open; one for each instance, shared by all its transactions. */
export class Publisher {
  #slot = 1;

  /**
   * Writes the messages and returns their places in the order given.
   *
   * Transaction: runs on `executor` alone; visible with its commit. More than `limits.batchMessages` take several statements.
   * `home` holds an executor that somebody else brought to the database that the ids of the messages are from.
   */
  async write(executor: Executor, messages: readonly Outgoing[], home: string | null = null): Promise<Written[]> {
    const places: Written[] = [];
    for (let from = 0; from < messages.length; from += limits.batchMessages) {
      places.push(...(await this.#writeBatch(executor, messages.slice(from, from + limits.batchMessages), home)));
    }
    return places;
  }

  async #writeBatch(executor: Executor, messages: readonly Outgoing[], home: string | null): Promise<Written[]> {
    const own = nonces(messages.length);
    const list = asList(messages, own);
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const { rows } = await mapped(
        executor.query<Written>(statement(this.#slot), [list, home]).catch((error: unknown) => {
          throw home !== null && isUndefinedTable(error) ? elsewhere(error) : error;
        }),
      );
      if (rows.length === messages.length) return inOrder(rows, own);
      await this.#findSlot(executor, home);
    }
    throw errorOf("PH_INTERNAL", "The ring of segments moved on during each of three attempts to write. Try again.");
  }

  async #findSlot(executor: Executor, home: string | null): Promise<void> {
    const { rows } = await mapped(
      executor.query<{ slot: number; here: boolean; home: string }>(
        "select slot::int as slot, posthorn.is_here(system_identifier, database) as here, system_identifier || '/' || database as home from posthorn.ring",
      ),
    );
    const ring = rows[0];
    if (ring === undefined || !ring.here) {
      throw errorOf(
        "PH_DATABASE_MOVED",
        "This database was restored or moved: its transaction ids belong to another server. Nothing was written; it must be rebased first.",
      );
    }
    if (home !== null && ring.home !== home) throw elsewhere();
    this.#slot = ring.slot;
  }
}

function isUndefinedTable(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "42P01";
}

function elsewhere(cause?: unknown): Error {
  return errorOf(
    "PH_TRANSACTION_UNKNOWN",
    "post.in() was given a transaction of another database than this instance's. Nothing was written. Pass one of the same database, or use an instance for that one.",
    {},
    cause,
  );
}

function inOrder(rows: readonly Written[], own: readonly string[]): Written[] {
  if (rows.length === 1) return [...rows];
  const byNonce = new Map(rows.map((row) => [row.nonce, row]));
  return own.map((wanted) => {
    const place = byNonce.get(wanted);
    if (place === undefined)
      throw errorOf("PH_INTERNAL", "A written message is missing from the answer of the insert.");
    return place;
  });
}

/** The id of a message as people and programs see it; the same as posthorn.public_id. */
export function publicId(place: Place): string {
  return `${place.id}-${BigInt.asUintN(64, BigInt(place.nonce)).toString(16).padStart(16, "0")}`;
}
