/**
 * The last statement of a transaction and its COMMIT in one round trip; where it is the first as well, with BEGIN.
 *
 * No Sync stands between the two: after an error of the first the server skips COMMIT. pg calls the methods of whatever is submitted as it
 * calls those of its own queries.
 */
import type { Connection, Submittable } from "pg";
import type { Statement } from "../core/database.js";
import { writeAll } from "./pg-opening.js";

export interface Committed<Row> {
  /** Columns as the server writes them, in text. */
  readonly rows: readonly Row[];
  /** The command tag of what was to commit. */
  readonly command: string | undefined;
}

export class LastAndCommit<Row> implements Submittable {
  /** For whoever looks at what a client sends. */
  readonly text: string;
  readonly #opening: readonly string[];
  readonly #statement: Statement;
  readonly #resolve: (committed: Committed<Row>) => void;
  readonly #reject: (error: unknown) => void;
  readonly #rows: Row[] = [];
  #names: readonly string[] = [];
  #command: string | undefined;

  /** `opening`: statements that go before it. */
  constructor(
    opening: readonly string[],
    statement: Statement,
    resolve: (committed: Committed<Row>) => void,
    reject: (error: unknown) => void,
  ) {
    this.text = `${statement.text}; commit`;
    this.#opening = opening;
    this.#statement = statement;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  submit(connection: Connection): void {
    const { text, params = [] } = this.#statement;
    // Gathered, so that they leave in one packet.
    connection.stream.cork();
    try {
      writeAll(connection, this.#opening);
      connection.parse({ name: "", text, types: [] }, true);
      connection.bind({ values: params.map((param) => (param === null ? null : String(param))) }, true);
      connection.describe({ type: "P", name: "" }, true);
      connection.execute({}, true);
      writeAll(connection, ["commit"]);
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  handleRowDescription({ fields }: { readonly fields: readonly { readonly name: string }[] }): void {
    this.#names = fields.map(({ name }) => name);
  }

  handleDataRow({ fields }: { readonly fields: readonly (string | null)[] }): void {
    const columns: (readonly unknown[])[] = this.#names.map((name, i) => [name, fields[i]]);
    this.#rows.push(Object.fromEntries(columns));
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#command = text;
  }

  handleReadyForQuery(): void {
    this.#resolve({ rows: this.#rows, command: this.#command });
  }

  handleError(error: unknown): void {
    this.#reject(error);
  }
}
