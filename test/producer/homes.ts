/**
 * The databases that the suite of the public interface runs on. One row for each way in which a user can name a database, with what
 * differs between them as data; everything else must be the same.
 */
import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import type { DatabaseInput } from "posthorn";
import { createEmbedded, createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

type Rows = Record<string, unknown>[];

/** An open database of one kind. */
export interface Home {
  readonly input: DatabaseInput;
  /** Where a server is. */
  readonly url?: string;
  /** One statement beside the instance, committed at once. Undefined where the instance holds the only way in. */
  readonly rows: ((sql: string, params?: readonly unknown[]) => Promise<Rows>) | undefined;
  /** A transaction that the test begins with the driver's own means; rolled back when `work` throws. */
  readonly transaction: (<T>(work: (tx: OwnTransaction) => Promise<T>) => Promise<T>) | undefined;
  close(): Promise<void>;
}

export type OwnTransaction = object & { query(sql: string, params?: unknown[]): Promise<{ rows: unknown[] }> };

interface Contents {
  readonly empty?: boolean;
  /** Empty, and no copy: copies of one PGlite have its identity. */
  readonly anew?: boolean;
}

export interface HomeKind {
  readonly name: string;
  /** One connection for everybody: what would wait for its own transaction is refused. */
  readonly single: boolean;
  /** Several instances of the library may use it at once. */
  readonly shared: boolean;
  /** With the schema, unless it is to be empty. */
  open(as?: Contents): Promise<Home>;
}

async function openServer(poolSize: number | undefined, { anew = false, empty = anew }: Contents = {}): Promise<Home> {
  const place = await createDatabase({ empty });
  const beside = new pg.Pool({ connectionString: place.url, max: 2 });
  const pool = poolSize === undefined ? undefined : new pg.Pool({ connectionString: place.url, max: poolSize });
  return {
    input: pool ?? place.url,
    url: place.url,
    rows: async (sql, params = []) => (await beside.query(sql, [...params])).rows,
    transaction: async (work) => {
      const client = await (pool ?? beside).connect();
      try {
        await client.query("begin");
        const result = await work(client);
        await client.query("commit");
        return result;
      } catch (error) {
        await client.query("rollback");
        throw error;
      } finally {
        client.release();
      }
    },
    close: async () => {
      await Promise.all([beside.end(), pool?.end()]);
      await place.drop();
    },
  };
}

async function openPglite({ anew = false, ...as }: Contents = {}): Promise<Home> {
  const pglite = anew ? await PGlite.create() : await createPglite(as);
  return {
    input: pglite,
    rows: async (sql, params = []) => (await pglite.query<Record<string, unknown>>(sql, [...params])).rows,
    transaction: (work) => pglite.transaction((tx) => work(tx)),
    close: () => pglite.close(),
  };
}

async function openFolder(as: Contents = {}): Promise<Home> {
  const { url, remove } = await createEmbedded(as);
  return { input: url, rows: undefined, transaction: undefined, close: remove };
}

export const homes: readonly HomeKind[] = [
  { name: "a server by URL", single: false, shared: true, open: (as) => openServer(undefined, as) },
  { name: "a pool of 1", single: false, shared: true, open: (as) => openServer(1, as) },
  { name: "a pool of 2", single: false, shared: true, open: (as) => openServer(2, as) },
  { name: "a pool of 10", single: false, shared: true, open: (as) => openServer(10, as) },
  { name: "PGlite in memory", single: true, shared: true, open: openPglite },
  { name: "an embedded folder", single: true, shared: false, open: openFolder },
];

/** One server and one PGlite, for tests about what an instance is and not about its database. */
export const twoHomes = homes.filter(({ name }) => name === "a server by URL" || name === "PGlite in memory");
