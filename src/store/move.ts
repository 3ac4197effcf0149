/**
 * Moves a log to another database.
 *
 * The source holds still in one transaction, from the copy to the mark that it has left. The target is marked before anything is brought, takes
 * everything in one transaction, and is rebased when the source has left. A process that dies before that mark leaves the source the owner, and the
 * target refusing; one that dies after it leaves both refusing, and the next call finishes. There is never a second owner.
 */
import { randomUUID } from "node:crypto";
import type { Database, Executor, OpenTransaction } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { rescue } from "./fleet.js";
import { ensureSchema, planMigration } from "./migrate.js";
import { type Away, rebase } from "./rebase.js";
import { isLockTimeout, mapped, sentences } from "./sqlstate.js";

/** Where a move is. `rows` have been copied of a table of `total`. */
export type MoveStep =
  | { readonly step: "rescued"; readonly messages: number }
  | { readonly step: "marked" | "still" | "emptied" | "counted" | "copied" | "left" | "finished" }
  | { readonly step: "copying"; readonly table: string; readonly rows: number; readonly total: number };

export interface Moved {
  readonly from: string;
  readonly to: string;
  /** True where a move that had been interrupted was finished, or was finished already. */
  readonly resumed: boolean;
  /** Rows by table, the same on both sides; nothing where only the end was left to do. */
  readonly rows: Readonly<Record<string, number>>;
}

export interface MoveOptions {
  readonly source: Database;
  readonly target: Database;
  readonly onStep?: (step: MoveStep) => void;
}

interface Side {
  readonly system: string;
  readonly database: string;
  readonly away: Away | null;
  readonly says: string | null;
  readonly hint: string | null;
  readonly move: {
    readonly id: string;
    readonly side: "source" | "target";
    readonly other: string;
    readonly system: string;
    readonly database: string;
    readonly finished: boolean;
  } | null;
  readonly used: string | null;
  readonly workers: readonly {
    readonly service: string;
    readonly host: string;
    readonly pid: number;
    readonly dead: boolean;
  }[];
}

interface Table {
  readonly name: string;
  /** All columns with their types, in their order. */
  readonly columns: string;
  /** Those that are written. */
  readonly written: readonly string[];
}

/** How many bytes of rows go in one statement, about. */
const pageBytes = 2_000_000;
const pageRows = 5_000;
const rescuedClaims = 1_000;

/**
 * Moves what `source` holds to `target`, which must be empty, or the target of the same move that was interrupted.
 *
 * Errors: `DatabaseRefusedError` (PH_SOURCE_IN_USE, PH_TARGET_IN_USE, PH_DATABASE_MOVED); `SchemaVersionError` where the source is not of this version.
 */
export async function move({ source, target, onStep = () => undefined }: MoveOptions): Promise<Moved> {
  await ensureSchema(source, "check");
  await ensureSchema(target, "auto");
  const [from, to] = [await sideOf(source), await sideOf(target)];
  const names = { from: without(source.description), to: without(target.description) };
  if (hasLeft(from, to)) {
    await rebase(target);
    onStep({ step: "finished" });
    return { ...names, resumed: true, rows: {} };
  }
  refuseSides(from, to, names.to);
  await freeDead(source, onStep);
  const id = randomUUID();
  await inTransaction(target, async (tx) => {
    const place = [id, names.from, from.system, from.database];
    if (await call<boolean>(tx, "expect_move($1::uuid, $2::text, $3::bigint, $4::oid)", place)) return;
    throw errorOf("PH_TARGET_IN_USE", `Somebody has begun to use ${names.to} in this moment. Look what it holds.`);
  });
  onStep({ step: "marked" });
  const rows = await inTransaction(source, async (held) => {
    await still(held);
    onStep({ step: "still" });
    const copied = await inTransaction(target, (tx) => copyAll(held, tx, onStep));
    onStep({ step: "copied" });
    await call(held, "leave($1::uuid, $2::text, $3::bigint, $4::oid)", [id, names.to, to.system, to.database]);
    return copied;
  });
  onStep({ step: "left" });
  await rebase(target);
  onStep({ step: "finished" });
  return { ...names, resumed: false, rows };
}

/** Refuses what `move` would refuse, and changes nothing. Workers that are dead do not count. */
export async function refuseMove(source: Database, target: Database): Promise<void> {
  await ensureSchema(source, "check");
  const from = await sideOf(source);
  if ((await planMigration(target)).from === 0) {
    refuseAway(from);
  } else {
    await ensureSchema(target, "check");
    const to = await sideOf(target);
    if (hasLeft(from, to)) return;
    refuseSides(from, to, without(target.description));
  }
  refuseLiving(from.workers.filter(({ dead }) => !dead));
}

/** The source has left for this target already. */
function hasLeft(from: Side, to: Side): boolean {
  return from.away === "moved" && from.move !== null && from.move.id === to.move?.id;
}

function refuseSides(from: Side, to: Side, name: string): void {
  if (same(from, to)) throw errorOf("PH_TARGET_IN_USE", "The source and the target of the move are the same database.");
  refuseAway(from);
  refuseUsed(to, from, name);
}

/** Without the user: a password is not in it. */
function without(description: string): string {
  return description.replace(/^(postgres(?:ql)?:\/\/)[^@/]*@/, "$1");
}

async function sideOf(executor: Executor): Promise<Side> {
  return one<Side>(executor, "move_facts()");
}

function same(a: Pick<Side, "system" | "database">, b: Pick<Side, "system" | "database">): boolean {
  return a.system === b.system && a.database === b.database;
}

function refuseAway({ away, says, hint }: Side): void {
  if (away === null) return;
  throw errorOf("PH_DATABASE_MOVED", `The source cannot be moved. ${sentences(says ?? "", hint ?? undefined)}`, {
    detail: away,
  });
}

function refuseUsed(to: Side, from: Side, name: string): void {
  if (to.away === "unfinished" && to.move !== null) {
    if (same({ system: to.move.system, database: to.move.database }, from)) return;
    throw errorOf(
      "PH_TARGET_IN_USE",
      `${name} is the target of a move from ${to.move.other} that was not finished. Finish that one, or remove what it brought there: drop schema posthorn cascade.`,
      { other: to.move.other },
    );
  }
  if (to.used === null && to.away === null) return;
  const what = to.used === null ? sentences(to.says ?? "") : `It has ${to.used}.`;
  throw errorOf(
    "PH_TARGET_IN_USE",
    `${name} is in use by Posthorn already. ${what} Move into an empty database; or, if nothing there is needed, drop its schema first: drop schema posthorn cascade.`,
  );
}

/** Frees what dead workers hold. Who lives is in the way. */
async function freeDead(source: Database, onStep: (step: MoveStep) => void): Promise<void> {
  let messages = 0;
  for (;;) {
    const freed = await rescue(source, rescuedClaims);
    messages += freed.reduce((sum, one) => sum + one.messages, 0);
    if (freed.length === 0) break;
  }
  const { workers } = await sideOf(source);
  refuseLiving(workers);
  onStep({ step: "rescued", messages });
}

function refuseLiving(workers: Side["workers"]): void {
  if (workers.length === 0) return;
  const names = workers.map(({ service, host, pid }) => `${service} (process ${pid} on ${host})`).join(", ");
  throw errorOf(
    "PH_SOURCE_IN_USE",
    `The source is still worked on by ${names}. Stop the application everywhere, and move then. A worker that was killed counts as alive until its heartbeat is overdue.`,
    { workers },
  );
}

async function still(held: OpenTransaction): Promise<void> {
  try {
    await call(held, "hold_still()", []);
  } catch (error) {
    if (!isLockTimeout(error)) throw error;
    throw errorOf(
      "PH_SOURCE_IN_USE",
      "Transactions that have said something are open in the source, and did not end within ten seconds. Stop the application everywhere, end prepared transactions, and move then.",
      {},
      error,
    );
  }
  // One may have begun before the lock.
  refuseLiving((await sideOf(held)).workers);
}

async function copyAll(
  source: OpenTransaction,
  target: OpenTransaction,
  onStep: (step: MoveStep) => void,
): Promise<Record<string, number>> {
  await call(target, "empty_target()", []);
  onStep({ step: "emptied" });
  const tables = await one<readonly Table[]>(source, "move_tables()");
  const theirs = await one<readonly Table[]>(target, "move_tables()");
  if (JSON.stringify(tables) !== JSON.stringify(theirs))
    throw errorOf("PH_INTERNAL", "The tables of source and target differ although their schemas have one version.");
  const counts: Record<string, number> = {};
  for (const { name } of tables) counts[name] = await countOf(source, name);
  onStep({ step: "counted" });
  for (const table of tables) {
    const total = counts[table.name] ?? 0;
    if (total === 0) continue;
    await copyTable(source, target, table, (rows) => onStep({ step: "copying", table: table.name, rows, total }));
    const there = await countOf(target, table.name);
    if (there !== total)
      throw errorOf("PH_INTERNAL", `${there} rows of ${table.name} have arrived, and ${total} were sent.`);
  }
  await call(target, "take_ring($1::text)", [await one<string>(source, "ring_text()")]);
  await call(target, "take_sequences($1::json)", [JSON.stringify(await one<unknown>(source, "sequence_values()"))]);
  return Object.fromEntries(Object.entries(counts).filter(([, rows]) => rows > 0));
}

async function countOf(executor: Executor, table: string): Promise<number> {
  const { rows } = await executor.query<{ n: string }>(`select count(*)::text as n from posthorn.${table}`);
  return Number(rows[0]?.n);
}

/** A row goes as the text of its composite type: the one form that keeps every value, also JSON null apart from NULL. */
async function copyTable(
  source: OpenTransaction,
  target: OpenTransaction,
  { name, written }: Table,
  onRows: (rows: number) => void,
): Promise<void> {
  const columns = written.join(", ");
  const insert = `insert into posthorn.${name} (${columns}) overriding system value
    select ${written.map((column) => `(x.r).${column}`).join(", ")}
    from (select e.e::posthorn.${name} as r from json_array_elements_text($1::json) e(e) offset 0) x`;
  await source.query(`declare posthorn_move no scroll cursor for select t::text as r from posthorn.${name} t`);
  const fetch = async (count: number) =>
    (await source.query<{ r: string }>(`fetch ${count} from posthorn_move`)).rows.map(({ r }) => r);
  let page = 16;
  let rows = await fetch(page);
  for (let done = 0; rows.length > 0; ) {
    const list = JSON.stringify(rows);
    page = Math.max(1, Math.min(pageRows, Math.round((rows.length * pageBytes) / list.length), page * 8));
    // Both sides have something to do.
    const [next] = await Promise.all([fetch(page), target.query(insert, [list])]);
    done += rows.length;
    onRows(done);
    rows = next;
  }
  await source.query("close posthorn_move");
}

async function call<T>(executor: Executor, text: string, params: readonly unknown[]): Promise<T> {
  const { rows } = await mapped(executor.query<{ answer: T }>(`select posthorn.${text} as answer`, params));
  const [row] = rows;
  if (row === undefined) throw errorOf("PH_INTERNAL", `posthorn.${text} answered nothing.`);
  return row.answer;
}

function one<T>(executor: Executor, text: string): Promise<T> {
  return call<T>(executor, text, []);
}

async function inTransaction<T>(database: Database, work: (tx: OpenTransaction) => Promise<T>): Promise<T> {
  const tx = await database.begin({ marked: false });
  try {
    const result = await work(tx);
    await mapped(tx.commit());
    return result;
  } catch (error) {
    await tx.rollback();
    throw error;
  }
}
