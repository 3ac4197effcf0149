/**
 * A statement of the library on a pg client, alone or as the last of its transaction: then COMMIT goes in the same packet, and where it is the
 * first as well, BEGIN.
 *
 * No Sync stands between them: after an error of one the server skips the rest. pg calls the methods of whatever is submitted as it calls those
 * of its own queries, which do several times as much for each statement.
 */
import type { ClientBase, Connection, Submittable } from "pg";
import { parserOf } from "./parsers.js";
import { inOnePiece } from "./pg-packet.js";

export interface Answer<Row> {
  readonly rows: Row[];
  /** The command tag of the last statement. */
  readonly command: string | undefined;
}

type Value = string | null;
/** As of pg's own queries: an error, or the answer. */
type Told<Row> = (error: unknown, answer?: Answer<Row>) => void;

/** A name that is none for pg. */
export const unnamed = "";

/** What pg would send for these; undefined where one is of a kind that pg alone knows how to write. */
export function valuesOf(params: readonly unknown[]): readonly Value[] | undefined {
  const values: Value[] = [];
  for (const param of params) {
    if (typeof param === "string") values.push(param);
    else if (param === null || param === undefined) values.push(null);
    else if (typeof param === "object" || typeof param === "function" || typeof param === "symbol") return undefined;
    else values.push(String(param));
  }
  return values;
}

/** pg's native client, and a client with the option `pipeline`, take queries of pg's own only. */
export function takesSubmitted(client: ClientBase): boolean {
  return "connection" in client && !("pipeline" in client && client.pipeline === true);
}

/** Writes statements without parameters, and no Sync. */
export function writeAll(connection: Connection, statements: readonly string[]): void {
  for (const text of statements) {
    connection.parse({ name: "", text, types: [] }, true);
    connection.bind({}, true);
    connection.execute({}, true);
  }
}

export interface Around {
  /** Statements that go before it. */
  readonly opening: readonly string[];
  readonly commits: boolean;
}

const alone: Around = { opening: [], commits: false };

export class LibraryStatement<Row> implements Submittable {
  /** All that is sent; also for whoever looks at what a client sends. */
  readonly text: string;
  readonly values: readonly Value[];
  /** Tracers put a comment into a copy of what has no name, and a copy has none of the methods. */
  readonly name = unnamed;
  /** pg, where queries have a time limit, and tracers put their own around it, to know of the end. */
  callback: Told<Row>;
  readonly #statement: string;
  readonly #around: Around;
  readonly #rows: Row[] = [];
  #columns: readonly (readonly [name: string, parse: (text: string) => unknown])[] = [];
  #command: string | undefined;
  #unread: unknown;

  constructor(text: string, values: readonly Value[], callback: Told<Row>, around: Around = alone) {
    this.text = [...around.opening, text, ...(around.commits ? ["commit"] : [])].join("; ");
    this.#statement = text;
    this.values = values;
    this.callback = callback;
    this.#around = around;
  }

  requiresPreparation(): boolean {
    return this.values.length > 0;
  }

  submit(connection: Connection): void {
    const { opening, commits } = this.#around;
    if (!this.requiresPreparation()) {
      connection.query(this.text);
      return;
    }
    inOnePiece(connection, (packet) => {
      writeAll(packet, opening);
      packet.parse({ name: "", text: this.#statement, types: [] }, true);
      packet.bind({ values: [...this.values] }, true);
      packet.describe({ type: "P", name: "" }, true);
      packet.execute({}, true);
      if (commits) writeAll(packet, ["commit"]);
      packet.sync();
    });
  }

  handleRowDescription({
    fields,
  }: {
    readonly fields: readonly { readonly name: string; dataTypeID: number }[];
  }): void {
    this.#columns = fields.map(({ name, dataTypeID }) => [name, parserOf(dataTypeID)]);
  }

  handleDataRow({ fields }: { readonly fields: readonly (string | null)[] }): void {
    try {
      const row: Record<string, unknown> = {};
      this.#columns.forEach(([name, parse], i) => {
        const field = fields[i] ?? null;
        row[name] = field === null ? null : parse(field);
      });
      this.#rows.push(row as Row);
    } catch (error) {
      this.#unread = error;
    }
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#command = text;
  }

  handleEmptyQuery(): void {}

  handleReadyForQuery(): void {
    if (this.#unread !== undefined) this.callback(this.#unread);
    else this.callback(null, { rows: this.#rows, command: this.#command });
  }

  handleError(error: unknown): void {
    this.callback(error);
  }
}
