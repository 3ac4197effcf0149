/**
 * `post.transaction`: the business rows and the messages in one commit.
 *
 * What was said is buffered and written in one statement, in one round trip with COMMIT where the driver can: ids in the order of
 * transactions that conflict on a row lock (not of serializable conflicts). If the process dies anywhere before COMMIT, neither rows
 * nor messages exist; after it, both do.
 */
import type { OpenTransaction } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { commitMessages } from "../store/publish.js";
import { type Batch, Buffer } from "./buffer.js";
import type { Producing } from "./producer.js";
import type { SayBuffered } from "./say.js";

export interface TransactionContext<Tx> extends SayBuffered {
  /** Your own client, inside the transaction. It cannot end it, and nothing can use it afterwards. */
  readonly tx: Tx;
}

export async function runTransaction<T>(
  producing: Producing,
  work: (context: TransactionContext<unknown>) => Promise<T>,
): Promise<T> {
  const { database, catalog, waker, asking, room, outside } = producing;
  if (!database.single) outside.tellTransaction(database);
  const open = await database.begin({ marked: false });
  const buffer = new Buffer(catalog, asking, "the transaction");
  let batch: Batch;
  let result: T;
  try {
    open.onSavepoints(buffer);
    result = await runSealed(open, () => work({ tx: open.native, send: buffer.send, publish: buffer.publish }));
    buffer.close();
    batch = await buffer.ready(open);
    // Before anything is written: a full queue rolls all of it back.
    for (const [contract, count] of batch.commands) await room.admit(contract, count, { tx: open });
    batch.committed(await commitMessages(open, batch.messages));
  } catch (error) {
    buffer.drop(error);
    await open.rollback();
    throw error;
  }
  waker.wake(batch.channels);
  return result;
}

/** Runs the user's part, and refuses a transaction that ends while one of its statements still runs. */
export async function runSealed<T>(open: OpenTransaction, work: () => Promise<T>): Promise<T> {
  let running = 0;
  let result: T;
  try {
    // `async`, so that a callback that throws at once or returns no promise is the same.
    result = await open.run(async () => work());
  } finally {
    running = open.seal();
  }
  if (running > 0) {
    throw errorOf(
      "PH_STATEMENT_NOT_AWAITED",
      `${running} statement${running === 1 ? " was" : "s were"} still running when the function returned. Await every use of tx; nothing was committed.`,
      { running },
    );
  }
  return result;
}
