import { PGlite, type Transaction } from "@electric-sql/pglite";
import type { Pool, PoolClient } from "pg";
import { expectTypeOf, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { type DatabaseInput, openDatabase, type Sql, type TxOf } from "../../src/databases/open.js";

const createPglite = () => PGlite.create();
type CreatedPglite = Awaited<ReturnType<typeof createPglite>>;

test("tx of a pg.Pool is PoolClient, of a PGlite its Transaction, and of text the common part", () => {
  expectTypeOf<TxOf<Pool>>().toEqualTypeOf<PoolClient>();
  expectTypeOf<TxOf<PGlite>>().toEqualTypeOf<Transaction>();
  expectTypeOf<TxOf<CreatedPglite>>().toEqualTypeOf<Transaction>();
  expectTypeOf<TxOf<string>>().toEqualTypeOf<Sql>();
  expectTypeOf<TxOf<"embedded:.posthorn">>().toEqualTypeOf<Sql>();
});

test("a pool, an instance and text are database inputs, and a client or number is not", () => {
  expectTypeOf<Pool>().toExtend<DatabaseInput>();
  expectTypeOf<PGlite>().toExtend<DatabaseInput>();
  expectTypeOf<CreatedPglite>().toExtend<DatabaseInput>();
  expectTypeOf<number>().not.toExtend<DatabaseInput>();
  expectTypeOf<PoolClient>().not.toExtend<DatabaseInput>();
});

test("openDatabase infers tx from its argument", () => {
  const ofPool = (pool: Pool) => openDatabase(pool);
  const ofPglite = (pglite: CreatedPglite) => openDatabase(pglite);
  expectTypeOf<Awaited<ReturnType<typeof ofPool>>>().toEqualTypeOf<Database<PoolClient>>();
  expectTypeOf<Awaited<ReturnType<typeof ofPglite>>>().toEqualTypeOf<Database<Transaction>>();
});
