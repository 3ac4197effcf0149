/**
 * Several installations in one database, each in a schema of its own.
 *
 * SQL files and statements say `posthorn`, which means: the schema of this installation. Where it has another name, this file alone puts it in, on the
 * way to the database; with the name `posthorn` nothing is looked at. Keys of advisory locks, the channel of wake-ups and the names of roles are made
 * of the name as well, so installations share none of them.
 */
import type { Database, Executor, Listener, OpenTransaction, Session, Statement } from "../core/database.js";
import { ConfigurationError } from "../core/errors.js";
import { show } from "../core/show.js";
import { reservedWords } from "./reserved-words.js";

export const defaultSchema = "posthorn";

/** Longest name: roles are named after it, and identifiers have 63 bytes. */
const longest = 40;

/** Errors: `ConfigurationError` (PH_NAME_INVALID). */
export function checkSchema(value: unknown, path: string): string {
  const refuse = (why: string): never => {
    const message = `${path} must be a name of lower-case letters, digits and _ that begins with a letter, ${longest} at most, got ${show(value)}${why}.`;
    throw new ConfigurationError("PH_NAME_INVALID", message, { path });
  };
  if (typeof value !== "string" || value.length > longest || !/^[a-z][a-z0-9_]*$/.test(value)) return refuse("");
  if (value.startsWith("pg_") || value === "public" || value === "information_schema")
    return refuse(": this one belongs to PostgreSQL or to everybody");
  if (reservedWords.has(value)) return refuse(": this one is a word of SQL");
  return value;
}

/** Settings of a session say what is true in every schema, and keep their names. */
export const settings = ["home", "mark"] as const;
const inScripts = new RegExp(`posthorn(?!\\.(?:${settings.join("|")})\\b)`, "g");

/** For texts that are ours as a whole: migrations, functions, roles. */
export function scriptIn(schema: string, text: string): string {
  return schema === defaultSchema ? text : text.replace(inScripts, schema);
}

/** Literals and quoted names may be the user's and are passed over; but for what looks a table of ours up by its name. */
const inStatements = /(to_regclass\(')posthorn(?=\.)|'(?:[^']|'')*'|"[^"]*"|\bposthorn(?=\.)/g;

/** For statements, which may hold values. */
export function statementIn(schema: string, text: string): string {
  return text.replace(inStatements, (found, before: string | undefined) => {
    if (before !== undefined) return `${before}${schema}`;
    return found === "posthorn" ? schema : found;
  });
}

/** An executor whose statements mean this schema. */
export function executorIn<E extends Executor>(schema: string, executor: E): Executor {
  if (schema === defaultSchema) return executor;
  return { query: (text, params) => executor.query(statementIn(schema, text), params) };
}

/** A database whose statements mean this schema. */
export function databaseIn<Tx>(schema: string, database: Database<Tx>): Database<Tx> {
  return schema === defaultSchema ? database : new SchemaDatabase(schema, database);
}

class SchemaDatabase<Tx> implements Database<Tx> {
  readonly description: string;
  readonly single: boolean;
  readonly transactions: number;
  readonly #schema: string;
  readonly #database: Database<Tx>;

  constructor(schema: string, database: Database<Tx>) {
    this.#schema = schema;
    this.#database = database;
    this.description = database.description;
    this.single = database.single;
    this.transactions = database.transactions;
  }

  insideTransaction(writing?: boolean): boolean {
    return this.#database.insideTransaction(writing);
  }

  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    return this.#database.query<Row>(statementIn(this.#schema, text), params);
  }

  script(sql: string): Promise<void> {
    return this.#database.script(scriptIn(this.#schema, sql));
  }

  async begin(...options: Parameters<Database<Tx>["begin"]>): Promise<OpenTransaction<Tx>> {
    return transactionIn(this.#schema, await this.#database.begin(...options));
  }

  async session(): Promise<Session> {
    const session = await this.#database.session();
    return { ...executorIn(this.#schema, session), lost: session.lost, close: () => session.close() };
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<Listener | undefined> {
    const listener = await this.#database.listen(scriptIn(this.#schema, channel), onNotify);
    if (listener === undefined) return undefined;
    return { ...executorIn(this.#schema, listener), lost: listener.lost, close: () => listener.close() };
  }

  close(): Promise<void> {
    return this.#database.close();
  }
}

/** What the user sends by `native` is theirs, and goes as it is. */
function transactionIn<Tx>(schema: string, open: OpenTransaction<Tx>): OpenTransaction<Tx> {
  return {
    ...executorIn(schema, open),
    native: open.native,
    mark: open.mark,
    run: (work) => open.run(work),
    onSavepoints: (followed) => open.onSavepoints(followed),
    seal: () => open.seal(),
    commit: (last?: Statement) =>
      open.commit(last === undefined ? undefined : { ...last, text: statementIn(schema, last.text) }),
    rollback: () => open.rollback(),
    get lost() {
      return open.lost;
    },
    get notBegun() {
      return open.notBegun;
    },
  };
}
