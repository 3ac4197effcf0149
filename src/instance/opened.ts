/** Everything of an instance that exists once its database is open. */
import type { Database } from "../core/database.js";
import { WouldDeadlockError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { type DatabaseInput, type DatabaseOptions, openDatabase } from "../databases/open.js";
import { executorOf } from "../databases/recognise.js";
import { Catalog } from "../producer/catalog.js";
import { Outside } from "../producer/outside.js";
import { type Producing, sayNow } from "../producer/producer.js";
import type { Asking } from "../producer/receipt.js";
import { Room } from "../producer/room.js";
import type { Say } from "../producer/say.js";
import { Settlements } from "../producer/settlements.js";
import { Side } from "../producer/side.js";
import { Waker } from "../producer/waker.js";
import { ensureSchema, type MigrateMode } from "../store/migrate.js";
import { homeOf } from "../store/publish.js";
import type { TopicEntry } from "../store/registry.js";
import { messageStatuses } from "../store/results.js";
import { databaseIn, executorIn } from "../store/schema.js";

export interface Opened {
  readonly producing: Producing;
  readonly side: Side;
  readonly say: Say;
}

export interface Opening {
  readonly input: DatabaseInput;
  readonly service: string;
  readonly options: Pick<DatabaseOptions, "pooler" | "statementTimeoutMs">;
  readonly schema: string;
  readonly logger: Logger;
  /** Declared until the start. */
  readonly topics: ReadonlyMap<string, TopicEntry>;
  /** Throws once the instance was stopped. */
  readonly refuseStopped: () => void;
}

export async function open(opening: Opening, mode: MigrateMode): Promise<Opened> {
  const opened = await connect(opening);
  const { producing, side } = opened;
  const { database } = producing;
  try {
    // Not through the pool: callers in transactions of their own may hold all of it while they wait for this.
    const query: Database["query"] = (text, params) => (database.single ? database : side).query(text, params);
    await ensureSchema({ query, script: (sql) => database.script(sql) }, mode);
    return { ...opened, producing: { ...producing, home: await homeOf({ query }) } };
  } catch (error) {
    await close(opened);
    throw error;
  }
}

/**
 * For the first call of all when it comes from inside the user's transaction on PGlite: its only connection is taken until that
 * transaction ends, so the schema is looked at through the transaction itself. What is returned is for that transaction alone.
 */
export async function openInside(opening: Opening, tx: unknown): Promise<Opened> {
  const opened = await connect(opening);
  const { database } = opened.producing;
  const { query } = executorIn(opening.schema, await executorOf(tx, database));
  const script = async (): Promise<never> => {
    throw new WouldDeadlockError(
      "PH_WOULD_DEADLOCK",
      "The Posthorn schema is missing or older, and cannot be migrated from inside a transaction: PGlite has one connection. Run `await post.migrate()` or `await post.start()` once before it.",
    );
  };
  await ensureSchema({ query, script }, "auto");
  return opened;
}

export async function close({ producing, side }: Opened): Promise<void> {
  producing.waker.close();
  producing.room.close();
  try {
    await side.close();
  } finally {
    await producing.database.close();
  }
}

async function connect({ input, service, options, schema, logger, topics, refuseStopped }: Opening): Promise<Opened> {
  const opened = await openDatabase(input, { ...options, applicationName: `posthorn ${service}` });
  const database = databaseIn(schema, opened);
  const side = new Side(database);
  const catalog = new Catalog(database, side, service, topics);
  const producing: Producing = {
    database,
    asking: askingOf(database, side, service, refuseStopped),
    home: null,
    catalog,
    outside: new Outside(logger),
    room: new Room({
      side,
      catalog,
      single: database.single,
      onError: (error) => logger.warn("asking about full queues failed; it is asked again", { error }),
    }),
    waker: new Waker({
      side,
      remote: !database.single,
      onError: (error) => logger.warn("a wake-up failed; polling finds the message", { error }),
    }),
  };
  return { producing, side, say: sayNow(producing) };
}

/** Reads for receipts; from inside a transaction on a database with one connection it would wait for itself. */
function askingOf(database: Database, side: Side, service: string, refuseStopped: () => void): Asking {
  const look = (ids: readonly string[]) => messageStatuses(database, ids);
  return {
    service,
    side,
    settlements: new Settlements({ look, check: refuseStopped }),
    query: (text, params) => database.query(text, params),
    check: (call) => {
      refuseStopped();
      if (!database.single || !database.insideTransaction()) return;
      throw new WouldDeadlockError(
        "PH_WOULD_DEADLOCK",
        `${call} would wait for the transaction that it is called from: the embedded database has one connection. Call it after the transaction.`,
      );
    },
  };
}
