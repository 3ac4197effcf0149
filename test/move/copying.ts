/**
 * A logical dump and restore with nothing but COPY: all tables as one snapshot sees them, into a schema that was migrated anew. Sequences are left
 * behind, as a dump of the data alone leaves them.
 */
import { chown, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { openSession, type Session } from "../sql/engine.js";
import { reachableTempFolder, serverUser } from "../support/server-user.js";

/** Tables in the order of their references, each with the columns that can be written. */
const tables = `
  with recursive t as (select c.oid, c.relname::text as name from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r'),
    r as (select distinct conrelid as from_table, confrelid as to_table from pg_constraint where contype = 'f' and conrelid <> confrelid),
    d as (select oid, 0 as depth from t union select r.from_table, d.depth + 1 from d join r on r.to_table = d.oid)
  select t.name, (select max(depth) from d where d.oid = t.oid) as depth,
    (select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute where attrelid = t.oid and attnum > 0 and not attisdropped and attgenerated = '') as columns
  from t where t.name not in ('migration', 'installation') order by 2, 1`;

export interface Dump {
  restore(url: string): Promise<void>;
  remove(): Promise<void>;
}

export async function dump(url: string): Promise<Dump> {
  const user = serverUser();
  const folder = await mkdtemp(join(reachableTempFolder(user), "posthorn-dump-"));
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  const session = await openSession(url);
  const names: { name: string; columns: string }[] = [];
  await session.rows("begin isolation level repeatable read");
  for (const { name, columns } of await session.rows(tables)) {
    names.push({ name: String(name), columns: String(columns) });
    await session.rows(`copy posthorn.${name} (${columns}) to '${join(folder, String(name))}'`);
  }
  await session.rows("commit");
  await session.close();
  return {
    restore: async (target) => {
      const database = await openDatabase(target);
      await ensureSchema(database, "auto");
      await database.close();
      await fill(await openSession(target), folder, names);
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

async function fill(session: Session, folder: string, names: readonly { name: string; columns: string }[]) {
  await session.rows("begin");
  await session.rows(`truncate ${names.map(({ name }) => `posthorn.${name}`).join(", ")}`);
  for (const { name, columns } of names)
    await session.rows(`copy posthorn.${name} (${columns}) from '${join(folder, name)}'`);
  await session.rows("commit");
  await session.close();
}
