/** Recognises clients by what they can do, not by their class: a project may hold several copies of a driver. */
import type { PGlite, Transaction } from "@electric-sql/pglite";
import type { ClientBase, Pool } from "pg";

export function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

export function hasMethod<Name extends string>(
  value: object,
  name: Name,
): value is object & Record<Name, (...args: unknown[]) => unknown> {
  return name in value && typeof Reflect.get(value, name) === "function";
}

function has(value: object, names: readonly string[]): boolean {
  return names.every((name) => hasMethod(value, name));
}

/** A pool counts its clients and has options; a client does neither. */
export function isPgPool(value: unknown): value is Pool {
  return (
    isObject(value) && has(value, ["connect", "query", "end", "on"]) && "totalCount" in value && "options" in value
  );
}

export function isPgClient(value: unknown): value is ClientBase {
  return isObject(value) && has(value, ["query", "on", "removeListener", "escapeIdentifier"]) && !isPgPool(value);
}

export function isPglite(value: unknown): value is PGlite {
  return isObject(value) && has(value, ["query", "exec", "transaction", "execProtocol", "listen", "close"]);
}

export function isPgliteTransaction(value: unknown): value is Transaction {
  return (
    isObject(value) && has(value, ["query", "exec", "rollback"]) && "closed" in value && !hasMethod(value, "close")
  );
}
