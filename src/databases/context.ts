/**
 * Knows whether the running code is inside a transaction that the library opened.
 *
 * On a single connection a call from inside would wait for its own caller. Which code is inside follows the asynchronous context,
 * not time: another request that runs meanwhile waits, as it should.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Database } from "../core/database.js";
import { WouldDeadlockError } from "../core/errors.js";

export interface Scope {
  /** What the transaction holds: the connection's owner, the same object for every Database over it. */
  readonly holder: object;
  readonly outer: Scope | undefined;
  /** Whether what it writes can be committed: that of a query's answer is rolled back in any case. */
  readonly writes: boolean;
  ended: boolean;
}

const storage = new AsyncLocalStorage<Scope>();

export function openScope(holder: object, writes = true): Scope {
  return { holder, outer: storage.getStore(), writes, ended: false };
}

export function runInScope<T>(scope: Scope, work: () => Promise<T>): Promise<T> {
  return storage.run(scope, work);
}

/** Whether the caller runs inside a transaction on `holder` that has not ended; with `writing`, in one that writes. */
export function isInside(holder: object, writing = false): boolean {
  for (let scope = storage.getStore(); scope !== undefined; scope = scope.outer) {
    if (scope.holder === holder && !scope.ended && (scope.writes || !writing)) return true;
  }
  return false;
}

export function refuseInside(holder: object, call: string): void {
  if (!isInside(holder)) return;
  throw new WouldDeadlockError(
    "PH_WOULD_DEADLOCK",
    `${call} would wait for the transaction that it is called from, because this database has one connection. ` +
      "Use tx, send and publish of the handler's or transaction's context instead.",
    { call },
  );
}

/** Whether the caller runs inside a transaction of `database` that the library opened and that has not ended. */
export function insideTransaction(database: Database): boolean {
  return database.insideTransaction();
}
