/** `posthorn migrate`: brings the schema up to date, or says or prints what that would be. */
import type { Database } from "../../core/database.js";
import { ConfigurationError } from "../../core/errors.js";
import { ensureSchema, type MigrationPlan, planMigration } from "../../store/migrate.js";
import { makeRoles, rolesScript } from "../../store/roles.js";
import { scriptIn } from "../../store/schema.js";
import type { Io } from "../io.js";
import { placeOf, withOpened } from "../open.js";
import { flag, type Line } from "../parse.js";

export async function migrate(line: Line, io: Io): Promise<number> {
  const dry = flag(line, "dry-run");
  const print = flag(line, "print");
  const roles = flag(line, "with-roles");
  const asked = (["dry-run", "print", "print-roles"] as const).filter((name) => flag(line, name));
  if (asked.length > 1) {
    const message = `--${asked.join(" and --")} are questions of their own. Pass one of them.`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  if (roles && asked.length > 0) {
    const message = `--with-roles changes the server, and --${asked[0]} changes nothing. Pass one of them; --print-roles prints what --with-roles does.`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  const place = await placeOf(line);
  if (flag(line, "print-roles")) {
    const made = scriptIn(place.schema, rolesScript);
    io.out(flag(line, "json") ? `${JSON.stringify({ script: made })}\n` : `begin;\n${made}\ncommit;\n`);
    return 0;
  }
  const only = dry || print;
  const plan = await withOpened(place, (database) => run(database, only, roles), !only);
  const { script: planned, ...facts } = plan;
  const script = scriptIn(place.schema, planned);
  if (flag(line, "json"))
    io.out(`${JSON.stringify({ ...facts, migrated: !only && script !== "", ...(print ? { script } : {}) })}\n`);
  else if (print) io.out(script === "" ? "-- Nothing to do.\n" : `begin;\n${script}\ncommit;\n`);
  else io.out(`${inWords(plan, only)}\n`);
  return 0;
}

async function run(database: Database, only: boolean, roles: boolean): Promise<MigrationPlan> {
  if (roles && database.single) {
    const message = "--with-roles is for a PostgreSQL server: an embedded database has one user. Leave it out.";
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  const plan = await planMigration(database);
  if (!only && plan.script !== "") await ensureSchema(database, "auto");
  if (roles) await makeRoles(database);
  return plan;
}

function inWords({ from, to, migrations, functions, script }: MigrationPlan, only: boolean): string {
  if (script === "") return `The schema has version ${to} and fits; nothing to do.`;
  const steps = migrations.map((name) => `\n  ${name}`).join("");
  const replaced = functions ? "\n  functions, views and rights" : "";
  const what = from === to ? `version ${to}` : `from ${from === 0 ? "nothing" : `version ${from}`} to version ${to}`;
  return `${only ? "Would migrate" : "Migrated"} ${what}:${steps}${replaced}`;
}
