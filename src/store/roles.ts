/** The three roles of a schema: made where that is wanted, or printed for whoever may make roles. What each may do is in sql/functions/90_roles.sql. */
import type { Database } from "../core/database.js";
import { scriptIn } from "./schema.js";
import { mapped } from "./sqlstate.js";

export const roles = ["producer", "worker", "observer"] as const;

const names = roles.map((role) => `posthorn_${role}`);

/** What they are called, for people. */
export function rolesIn(schema: string): readonly string[] {
  return names.map((name) => scriptIn(schema, name));
}

/** Roles belong to the whole server, so another database, or a process beside us, may have made them. */
const making = names
  .map(
    (name) => `do $role$ begin
  if not exists (select from pg_roles where rolname = '${name}') then create role ${name} nologin; end if;
exception when duplicate_object or unique_violation then null;
end $role$;`,
  )
  .join("\n");

/** Needs a schema that was migrated, the right to make roles, and the owner of the schema or a superuser. */
export const rolesScript = `${making}
grant usage on schema posthorn to ${names.join(", ")};
do $grant$ begin perform posthorn.grant_roles(); end $grant$;`;

/** Errors: `DatabaseRefusedError` where the right is missing. */
export async function makeRoles(database: Pick<Database, "script">): Promise<void> {
  await mapped(database.script(rolesScript));
}
