/**
 * The guarded form of a pg client: what a handler gets as `tx`.
 *
 * It is a proxy over the real client, so `instanceof` holds and query builders work on it; methods run on the real client.
 * `query` exists in three forms (promise, callback, object with `submit`), each guarded and counted.
 */
import type { PoolClient } from "pg";
import type { Guard } from "./guard.js";
import type { PgConnection } from "./pg-connection.js";

/** A client, and the way to it in its transaction. */
interface Behind {
  readonly client: PoolClient;
  readonly connection: PgConnection;
}

interface Guarded extends Behind {
  readonly guard: Guard;
}

/** By this a guarded client gives away what is behind it, for `post.in(tx)`. A WeakMap would do, and costs more than the rest of the guard. */
const behindIt = Symbol("posthorn.guarded");

export function guardedPgClient(tx: object): Guarded | undefined {
  const found: unknown = Reflect.get(tx, behindIt);
  return found instanceof GuardedClient ? found : undefined;
}

class GuardedClient implements Guarded {
  readonly client: PoolClient;
  readonly connection: PgConnection;
  readonly guard: Guard;

  constructor({ client, connection }: Behind, guard: Guard) {
    this.client = client;
    this.connection = connection;
    this.guard = guard;
  }
}

type Callback = (error: Error | undefined, result?: unknown) => void;
type AnyFunction = (...args: unknown[]) => unknown;

function isFunction(value: unknown): value is AnyFunction {
  return typeof value === "function";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** Statements have their SQL in `text`; a query stream in `cursor.text`. */
function sqlOf(config: unknown): string | undefined {
  if (typeof config === "string") return config;
  if (!isObject(config)) return undefined;
  if (typeof config.text === "string") return config.text;
  return isObject(config.cursor) ? sqlOf(config.cursor) : undefined;
}

/** pg calls exactly one of these at the end of whatever was submitted. */
function countSubmitted(config: Record<string, unknown>, guard: Guard): void {
  const ended = guard.started();
  for (const name of ["handleReadyForQuery", "handleError"]) {
    const original = config[name];
    if (!isFunction(original)) continue;
    config[name] = (...args: unknown[]) => {
      ended();
      return original.apply(config, args);
    };
  }
}

function refuse(args: unknown[], refusal: Error, client: PoolClient): unknown {
  const [config] = args;
  const callback =
    args.find(isFunction) ?? (isObject(config) && isFunction(config.callback) ? config.callback : undefined);
  if (callback !== undefined) {
    process.nextTick(callback, refusal);
    return isObject(config) && isFunction(config.submit) ? config : undefined;
  }
  if (isObject(config) && isFunction(config.submit) && isFunction(config.handleError)) {
    const handleError = config.handleError;
    process.nextTick(() => handleError.call(config, refusal, "connection" in client ? client.connection : undefined));
    return config;
  }
  return Promise.reject(refusal);
}

function guardedQuery({ client, connection }: Behind, guard: Guard): AnyFunction {
  const query: AnyFunction = connection.send;
  return (...given) => {
    const args = [...given];
    const refusal = guard.admit(sqlOf(args[0]));
    if (refusal !== undefined) return refuse(args, refusal, client);
    const [config] = args;
    if (isObject(config) && isFunction(config.submit)) {
      countSubmitted(config, guard);
      return query(...args);
    }
    const at = args.findIndex(isFunction);
    const callback = at === -1 ? undefined : args[at];
    if (isFunction(callback)) {
      const ended = guard.started();
      const counted: Callback = (error, result) => {
        ended();
        callback(error, result);
      };
      args[at] = counted;
      return query(...args);
    }
    if (isObject(config) && isFunction(config.callback)) {
      const own = config.callback;
      const ended = guard.started();
      const counted: Callback = (error, result) => {
        ended();
        own(error, result);
      };
      return query({ ...config, callback: counted }, ...args.slice(1));
    }
    const result = query(...args);
    return result instanceof Promise ? guard.count(result) : result;
  };
}

/** Methods that would take the connection away from its transaction. */
const notTheUsers: readonly (string | symbol)[] = ["release", "end", "connect"];

export function guardPgClient(behind: Behind, guard: Guard): PoolClient {
  const { client, connection } = behind;
  const query = guardedQuery(behind, guard);
  let bound: Map<string | symbol, AnyFunction> | undefined;
  const guarded = new GuardedClient(behind, guard);
  const native = new Proxy(client, {
    get(target, property) {
      if (property === "query") return query;
      if (property === behindIt) return guarded;
      // It is as good as begun.
      if (property === "getTransactionStatus" && !connection.opened) return () => "T";
      if (notTheUsers.includes(property)) {
        return () => {
          throw guard.sealed ? guard.afterEnd() : guard.notYours(`client.${String(property)}()`);
        };
      }
      const value: unknown = Reflect.get(target, property, target);
      if (!isFunction(value) || property === "constructor") return value;
      bound ??= new Map();
      const method = bound.get(property) ?? value.bind(target);
      bound.set(property, method);
      return method;
    },
    set: (target, property, value) => Reflect.set(target, property, value, target),
  });
  return native;
}
