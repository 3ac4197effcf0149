/**
 * Notices a pooler in transaction mode where sessions were counted on: it gives a connection another session for each transaction.
 *
 * There, what is set for a session meets strangers, a session's lock outlives its client, and nothing that is listened to arrives. A pooler
 * answers with process ids of its own, so on a server's own connection, where the two are the same, one comparison is all.
 */
import { DatabaseRefusedError } from "../core/errors.js";
import { withDeadline } from "./deadline.js";
import { databaseDefaults } from "./defaults.js";
import type { MakeClient } from "./own-client.js";
import { PgConnection } from "./pg-connection.js";

/** In a busy pool others take the session that is looked for. */
const looks = 5;

/** The process that a client was told of when it connected; 0 where it does not show it, as pg's native client. */
export function toldProcess(client: object): number {
  const told: unknown = Reflect.get(client, "processID");
  return typeof told === "number" ? told : 0;
}

/**
 * For a connection whose session is in another process than it was told. Nothing was set in that session so far.
 *
 * Errors: `DatabaseRefusedError` (PH_DATABASE_POOLED).
 */
export async function refuseShared(
  connection: PgConnection,
  first: number,
  make: MakeClient,
  description: string,
): Promise<void> {
  if (!(await isShared(connection, first, make, description))) return;
  throw new DatabaseRefusedError(
    "PH_DATABASE_POOLED",
    `A pooler in transaction mode stands before ${description}: it keeps no session for a connection, and LISTEN, locks and settings of a ` +
      'session were asked for. Say pooler: "transaction" to work by polling, or use the server\'s own address.',
    { database: description },
  );
}

/** Holds a session in a transaction on a second connection: it is the first one's, or the first one goes on with another. */
async function isShared(
  connection: PgConnection,
  first: number,
  make: MakeClient,
  description: string,
): Promise<boolean> {
  const limit = databaseDefaults.poolerLookMs;
  const own = await make({});
  const other = new PgConnection(own.client, description, () => void own.end(true));
  const look = async (): Promise<boolean> => {
    for (let i = 0; i < looks; i += 1) {
      await other.script("begin", limit);
      const held = await backendOf(other, limit);
      const now = await backendOf(connection, limit);
      await other.script("rollback", limit);
      if (held === first || now !== first) return true;
    }
    return false;
  };
  try {
    return await withDeadline(look(), limit, "A look for a pooler", () => other.cut());
  } catch {
    // A pooler in session mode without a session for the second connection, for instance.
    return false;
  } finally {
    await own.end(other.gone);
    other.detach();
  }
}

async function backendOf(connection: PgConnection, timeoutMs: number): Promise<number> {
  const sql = "select pg_catalog.pg_backend_pid() as pid";
  return (await connection.query<{ pid: number }>(sql, undefined, timeoutMs)).rows[0]?.pid ?? 0;
}
