/**
 * Drives an operation to its end, piece by piece, each a transaction of its own: whoever does it may die between two pieces or in the middle of one, and
 * anybody goes on. Pieces grow and shrink with the time that they take, so that live traffic is never held up for long.
 */
import { setTimeout as wait } from "node:timers/promises";
import type { Executor } from "../core/database.js";
import { type Operation, proceed } from "../store/operations.js";

export interface Pace {
  /** At most so many messages a second; as fast as it goes without it. */
  readonly perSecond?: number | undefined;
  /** Told after each piece. */
  readonly onProgress?: ((operation: Operation) => void) | undefined;
  /** Ends the driving after the piece that is under way; the operation stays as it is, and can be continued. */
  readonly signal?: AbortSignal | undefined;
}

/** A piece that takes longer is made smaller. */
const pieceMs = 250;
const firstPiece = 100;
const mostPiece = 2_000;
/** Pieces of a second where there is a pace. */
const piecesPerSecond = 5;
const busyMs = 50;
/** Between two pieces others come to their turn: claims only try the lock that a piece holds. */
const breathMs = 5;

/** Returns the operation when it has ended, or when the signal has fired. */
export async function drive(executor: Executor, begun: Operation, pace: Pace = {}): Promise<Operation> {
  const { perSecond, onProgress, signal } = pace;
  const most = perSecond === undefined ? mostPiece : Math.max(1, Math.round(perSecond / piecesPerSecond));
  let size = Math.min(firstPiece, most);
  let last = begun;
  while (!isOver(last) && signal?.aborted !== true) {
    const began = performance.now();
    const next = await proceed(executor, begun.operation, size);
    const tookMs = performance.now() - began;
    const did = next.done - last.done;
    const { busy, ...operation } = next;
    last = operation;
    onProgress?.(operation);
    if (isOver(operation)) break;
    if (tookMs > pieceMs) size = Math.max(1, Math.floor(size / 2));
    else if (did >= size) size = Math.min(most, size * 2);
    const dueMs = perSecond === undefined ? 0 : (Math.max(0, did) / perSecond) * 1_000 - tookMs;
    const restMs = Math.max(dueMs, busy === true ? busyMs : breathMs);
    await wait(restMs, undefined, { signal }).catch(() => undefined);
  }
  return last;
}

function isOver({ state }: Operation): boolean {
  return state === "done" || state === "stopped";
}
