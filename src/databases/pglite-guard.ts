/** The guarded form of a PGlite transaction: what a handler gets as `tx` on the embedded database. */
import type { Transaction } from "@electric-sql/pglite";
import type { Guard } from "./guard.js";

const targets = new WeakMap<object, { readonly transaction: Transaction; readonly guard: Guard }>();

/** The transaction behind a guarded one, for `post.in(tx)`. */
export function guardedPgliteTransaction(
  tx: object,
): { readonly transaction: Transaction; readonly guard: Guard } | undefined {
  return targets.get(tx);
}

export function guardPgliteTransaction(transaction: Transaction, guard: Guard): Transaction {
  const run = <T>(sql: string | undefined, work: () => Promise<T>): Promise<T> => {
    const refusal = guard.admit(sql);
    return refusal === undefined ? guard.count(work()) : Promise.reject(refusal);
  };
  const native: Transaction = {
    query: (sql, ...rest) => run(sql, () => transaction.query(sql, ...rest)),
    exec: (sql, ...rest) => run(sql, () => transaction.exec(sql, ...rest)),
    sql: (strings, ...params) => run(strings.join(" "), () => transaction.sql(strings, ...params)),
    listen: (channel, callback) => run(undefined, () => transaction.listen(channel, callback)),
    rollback: () => Promise.reject(guard.sealed ? guard.afterEnd() : guard.notYours("tx.rollback()")),
    get closed() {
      return transaction.closed || guard.sealed;
    },
  };
  targets.set(native, { transaction, guard });
  return native;
}
