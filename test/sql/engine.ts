/** An engine for tests at the level of SQL: a migrated database, sessions with their backend's pid, queues, workers, messages. */
import { Client } from "pg";
import type { Database, Executor } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { heartbeat, registerWorker, rescue } from "../../src/store/fleet.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { type Outgoing, writeMessages } from "../../src/store/publish.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { mapped } from "../../src/store/sqlstate.js";
import {
  type Delivery,
  type End,
  endStatement,
  type Next,
  type Outcome,
  type Part,
  takeDue,
  work,
} from "../../src/store/work.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

/** One connection of its own. */
export interface Session extends Executor {
  readonly pid: number;
  /** Rows of one statement, without parameters or types. */
  rows(text: string, params?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** The first column of the first row. */
  value(text: string, params?: readonly unknown[]): Promise<unknown>;
  close(): Promise<void>;
}

export interface Engine {
  readonly url: string;
  readonly db: Database;
  /** For planting and looking. */
  readonly admin: Session;
  session(): Promise<Session>;
  close(): Promise<void>;
}

export interface Reader {
  readonly subscription: number;
  readonly channel: number;
  readonly contract: number;
}

/** What is due and was taken. */
export async function takeOf(...of: Parameters<typeof takeDue>): Promise<readonly Delivery[]> {
  return (await takeDue(...of)).deliveries;
}

export async function openSession(url: string): Promise<Session> {
  const client = new Client({ connectionString: url });
  // A server that is killed in a test ends its clients without a word.
  client.on("error", () => undefined);
  await client.connect();
  const send = (text: string, params: readonly unknown[] = []) => client.query(text, [...params]);
  const first = await send("select pg_backend_pid() as pid");
  return {
    pid: Number(first.rows[0]?.pid),
    query: async (text, params) => ({ rows: (await send(text, params)).rows }),
    rows: async (text, params) => (await send(text, params)).rows,
    value: async (text, params) => Object.values((await send(text, params)).rows[0] ?? {})[0],
    close: () => client.end().catch(() => undefined),
  };
}

export async function openEngine(on?: { url(database?: string): string }): Promise<Engine> {
  const database = await createDatabase(on === undefined ? {} : { on });
  const db = await openDatabase(database.url);
  await ensureSchema(db, "auto");
  const sessions: Session[] = [];
  const session = async () => {
    const opened = await openSession(database.url);
    sessions.push(opened);
    return opened;
  };
  const admin = await session();
  const close = async () => {
    await Promise.all(sessions.map((one) => one.close()));
    await db.close();
    await database.drop();
  };
  return { url: database.url, db, admin, session, close };
}

export type Idempotency = "transaction" | "handler" | "at-most-once";

const policy = JSON.stringify({ deadLetter: { keepMs: 60_000 } });

/** A queue `name` with one command `Do<name>`. */
export async function makeQueue(engine: Engine, name: string, idempotency: Idempotency = "handler"): Promise<Reader> {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: false, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const reader = { name, kind: "command", channel: name, idempotency, policy } as const;
  const { subscription } = await registerSubscription(engine.db, reader, "test");
  return { subscription, channel, contract };
}

/** A topic `name` with one event `<name>Happened`, and subscriptions to it. */
export async function makeTopic(engine: Engine, name: string, readers: readonly string[]): Promise<readonly Reader[]> {
  const entry = { kind: "event", name: `${name}Happened`, version: 1, channel: name, keyed: false, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", true);
  const made: Reader[] = [];
  for (const reader of readers) {
    const declared = { name: reader, kind: "event", channel: name, idempotency: "handler", policy } as const;
    const { subscription } = await registerSubscription(engine.db, declared, "test");
    made.push({ subscription, channel, contract });
  }
  return made;
}

/** A worker that lives until `die` is called: its heartbeats count for an hour. */
export async function makeWorker(engine: Engine, readers: readonly Reader[]): Promise<string> {
  return registerWorker(engine.db, {
    service: "test",
    host: "here",
    pid: 1,
    timeoutMs: 3_600_000,
    sessionKey: null,
    backends: [],
    attends: readers.map(({ subscription, contract }) => ({ subscription, contracts: [contract] })),
  });
}

/** From now on the worker counts as dead. */
export async function die(engine: Engine, ...workers: readonly string[]): Promise<void> {
  await engine.admin.rows("update posthorn.worker set heartbeat_at = '-infinity' where id = any ($1::bigint[])", [
    workers,
  ]);
}

/** A rescue waits for a second for what is locked. Here it does for a minute: whoever is to be seen waiting waits on a slow machine as well. */
export async function makeRescuesPatient(engine: Engine): Promise<void> {
  const body = String(await engine.admin.value("select pg_get_functiondef('posthorn.rescue(int)'::regprocedure)"));
  const patient = body.replace("set_config('lock_timeout', '1s', true)", "set_config('lock_timeout', '60s', true)");
  if (patient === body) throw new Error("a rescue does not wait for a second");
  await engine.admin.rows(patient);
}

/** Frees what dead workers hold; the number of messages. */
export async function rescueAll(executor: Executor): Promise<number> {
  return (await rescue(executor, 1_000)).reduce((sum, { messages }) => sum + messages, 0);
}

export { heartbeat };

/** Says messages with the payloads { m: number }; returns their ids. */
export async function say(executor: Executor, reader: Reader, numbers: readonly number[]): Promise<readonly string[]> {
  const messages = numbers.map((m): Outgoing => ({ ...outgoing(reader), json: JSON.stringify({ m }) }));
  return (await writeMessages(executor, messages)).map(({ id }) => id);
}

export function outgoing({ contract, channel }: Reader): Outgoing {
  return { contract, channel, key: null, json: "{}", headers: null };
}

export function upTo(count: number, from = 1): readonly number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** The `m` of a payload that `say` made. */
export function numberOf({ payload }: Pick<Delivery, "payload">): number {
  if (typeof payload === "object" && payload !== null && "m" in payload && typeof payload.m === "number")
    return payload.m;
  throw new Error(`not a payload of this test: ${JSON.stringify(payload)}`);
}

/** Claims and insists on getting something. */
export async function claim(
  executor: Executor,
  reader: Reader,
  worker: string,
  limit = 10,
): Promise<readonly Delivery[]> {
  const { deliveries } = await work(executor, reader.subscription, worker, limit, []);
  if (deliveries.length === 0) throw new Error("there was nothing to claim");
  return deliveries;
}

/** The part of a claim that ends these deliveries of it. */
export function part(deliveries: readonly Delivery[], number: number, outcome: Outcome | null, closes: boolean): Part {
  const hold = deliveries[0]?.hold;
  if (hold?.from !== "log") throw new Error("these deliveries are not from the log");
  const messages = deliveries.map(({ id }) => id);
  return { claim: hold.claim, token: hold.token, slot: hold.claimSlot, part: number, outcome, closes, messages };
}

export const retryNow: Next = { defer: { delayMs: 0, attempts: 1, crashes: 0 } };
export const giveUp: Next = { dead: { reason: "retries spent", keepMs: 60_000, attempts: 1, crashes: 0 } };

export function end(delivery: Delivery, outcome: Outcome, next: Next, ends = false): End {
  return { delivery, outcome, entry: { attempt: 1, outcome }, next, ends };
}

/** Waits until the session really waits for a lock that another one holds. */
export async function waitsForLock(engine: Engine, session: Session): Promise<void> {
  await eventually(
    async () => {
      const waits = await engine.admin.value(
        "select wait_event_type = 'Lock' and cardinality(pg_blocking_pids(pid)) > 0 from pg_stat_activity where pid = $1",
        [session.pid],
      );
      return waits === true;
    },
    { everyMs: 5 },
  );
}

/** When the transaction of a session began, as the end of a handler's transaction wants it. */
export async function startedAt(session: Session): Promise<string> {
  return String(await session.value("select extract(epoch from now())::text"));
}

/** Ends a delivery in the transaction of a session, without its COMMIT. */
export async function endInTransaction(
  session: Session,
  delivery: Delivery,
  startedAt: string,
  say: string | null,
): Promise<void> {
  const { text, params } = endStatement(delivery, startedAt, say);
  await mapped(session.query(text, params));
}

/** The error of a promise that must reject. */
export async function failure(work: Promise<unknown>): Promise<Error & { code?: string }> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Error) return outcome;
  throw new Error("it should have been refused");
}
