/**
 * Says what `post.in(tx)` was given: something with an open transaction, or a refusal that says why not.
 *
 * A client without an open transaction would commit the message by itself, apart from the business rows; that is the mistake
 * this file exists for. Clients are recognised by shape, so that every copy and version of a driver is.
 */
import type { Transaction } from "@electric-sql/pglite";
import type { ClientBase, QueryConfig } from "pg";
import type { Database, Executor } from "../core/database.js";
import { TransactionRequiredError } from "../core/errors.js";
import { databaseError, sqlStateOf } from "./errors.js";
import type { Guard } from "./guard.js";
import { pgliteParsers, pgTypes } from "./parsers.js";
import { guardedPgClient } from "./pg-guard.js";
import { guardedPgliteTransaction } from "./pglite-guard.js";
import { hasMethod, isObject, isPgClient, isPglite, isPgliteTransaction, isPgPool } from "./shapes.js";

const accepted =
  "Accepted are a pg client with an open transaction (after BEGIN), a PGlite transaction (inside `pglite.transaction`), and the " +
  "`tx` that post.transaction and transaction handlers give.";

function unknown(what: string): TransactionRequiredError {
  return new TransactionRequiredError("PH_TRANSACTION_UNKNOWN", `post.in() was given ${what}. ${accepted}`, {});
}

function required(what: string): TransactionRequiredError {
  return new TransactionRequiredError("PH_TRANSACTION_REQUIRED", `post.in() was given ${what} ${accepted}`, {});
}

const noTransaction = () =>
  required(
    "a client that has no open transaction, so the message would be committed at once, apart from your rows. Send BEGIN first and await it.",
  );
const failed = () =>
  required("a transaction that has already failed: the server would refuse the message. Roll it back and begin again.");

/**
 * The way to send library statements inside the caller's transaction.
 *
 * Errors: `TransactionRequiredError` when there is no open transaction or the value is not known.
 */
export function executorOf(tx: unknown, database?: Pick<Database, "description">): Executor | Promise<Executor> {
  if (!isObject(tx)) throw unknown(tx === null ? "null" : `a value of type ${typeof tx}`);
  const guardedClient = guardedPgClient(tx);
  if (guardedClient !== undefined) {
    refuseSealed(guardedClient.guard);
    return pgExecutor(guardedClient.connection.send, database);
  }
  const guardedPglite = guardedPgliteTransaction(tx);
  if (guardedPglite !== undefined) {
    refuseSealed(guardedPglite.guard);
    return pgliteExecutor(guardedPglite.transaction, database);
  }
  if (isPgPool(tx)) {
    throw required(
      "a pg pool: each of its statements may run on another connection, in no transaction. Use `await pool.connect()` and BEGIN.",
    );
  }
  if (isPglite(tx)) throw required("a PGlite instance, not a transaction. Use the `tx` of `pglite.transaction`.");
  if (isPgliteTransaction(tx)) {
    if (tx.closed) throw required("a PGlite transaction that has ended.");
    return pgliteExecutor(tx, database);
  }
  if (isPgClient(tx)) return clientExecutor(tx, database);
  throw unknown("something that is no known client or transaction");
}

function refuseSealed(guard: Guard): void {
  if (guard.sealed) throw guard.afterEnd();
}

function clientExecutor(client: ClientBase, database?: Pick<Database, "description">): Executor | Promise<Executor> {
  const status: unknown = hasMethod(client, "getTransactionStatus") ? client.getTransactionStatus() : undefined;
  // With statements on their way the status is the one from before them; the server's answer queues behind them.
  if (status === undefined || status === null || !isQuiet(client)) return askServer(client, database);
  if (status === "E") throw failed();
  if (status !== "T") throw noTransaction();
  return pgExecutor((config) => client.query(config), database);
}

/** Whether nothing runs or waits on the client. pg shows it in fields; where they are missing the server is asked. */
function isQuiet(client: object): boolean {
  const queue: unknown = "_queryQueue" in client ? client._queryQueue : undefined;
  const sent: unknown = "_sentQueryQueue" in client ? client._sentQueryQueue : [];
  const ready: unknown = "readyForQuery" in client ? client.readyForQuery : undefined;
  return Array.isArray(queue) && queue.length === 0 && Array.isArray(sent) && sent.length === 0 && ready === true;
}

/** LOCK TABLE is refused outside a transaction block, and ACCESS SHARE on a catalog that is read anyway disturbs nobody. */
async function askServer(client: ClientBase, database?: Pick<Database, "description">): Promise<Executor> {
  try {
    await client.query("lock table pg_catalog.pg_class in access share mode");
  } catch (error) {
    const sqlState = sqlStateOf(error);
    if (sqlState === "25P01") throw noTransaction();
    if (sqlState === "25P02") throw failed();
    throw databaseError(error, database === undefined ? {} : { description: database.description });
  }
  return pgExecutor((config) => client.query(config), database);
}

function pgExecutor(query: (config: QueryConfig) => unknown, database?: Pick<Database, "description">): Executor {
  return {
    query: async <Row>(text: string, params?: readonly unknown[]) => {
      try {
        const sent = query({ text, values: params === undefined ? [] : [...params], types: pgTypes });
        const { rows } = (await sent) as { rows: Row[] };
        return { rows };
      } catch (error) {
        throw databaseError(error, database === undefined ? {} : { description: database.description });
      }
    },
  };
}

function pgliteExecutor(tx: Transaction, database?: Pick<Database, "description">): Executor {
  return {
    query: async <Row>(text: string, params?: readonly unknown[]) => {
      try {
        const values = params === undefined ? [] : [...params];
        const { rows } = await tx.query<Row>(text, values, { parsers: { ...pgliteParsers } });
        return { rows };
      } catch (error) {
        throw databaseError(error, database === undefined ? {} : { description: database.description });
      }
    },
  };
}
