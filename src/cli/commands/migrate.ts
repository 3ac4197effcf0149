/** `posthorn migrate`: brings the schema up to date, or says or prints what that would be. */
import type { Database } from "../../core/database.js";
import { ConfigurationError } from "../../core/errors.js";
import { ensureSchema, type MigrationPlan, planMigration } from "../../store/migrate.js";
import type { Io } from "../io.js";
import { inputOf, withOpened } from "../open.js";
import { flag, type Line } from "../parse.js";

export async function migrate(line: Line, io: Io): Promise<number> {
  const dry = flag(line, "dry-run");
  const print = flag(line, "print");
  if (dry && print) {
    throw new ConfigurationError("PH_ARGUMENT_INVALID", "--dry-run and --print are two questions. Pass one of them.");
  }
  const only = dry || print;
  const plan = await withOpened(await inputOf(line), (database) => run(database, only), !only);
  const { script, ...facts } = plan;
  if (flag(line, "json"))
    io.out(`${JSON.stringify({ ...facts, migrated: !only && script !== "", ...(print ? { script } : {}) })}\n`);
  else if (print) io.out(script === "" ? "-- Nothing to do.\n" : `begin;\n${script}\ncommit;\n`);
  else io.out(`${inWords(plan, only)}\n`);
  return 0;
}

async function run(database: Database, only: boolean): Promise<MigrationPlan> {
  const plan = await planMigration(database);
  if (!only && plan.script !== "") await ensureSchema(database, "auto");
  return plan;
}

function inWords({ from, to, migrations, functions, script }: MigrationPlan, only: boolean): string {
  if (script === "") return `The schema has version ${to} and fits; nothing to do.`;
  const steps = migrations.map((name) => `\n  ${name}`).join("");
  const replaced = functions ? "\n  functions, views and rights" : "";
  const what = from === to ? `version ${to}` : `from ${from === 0 ? "nothing" : `version ${from}`} to version ${to}`;
  return `${only ? "Would migrate" : "Migrated"} ${what}:${steps}${replaced}`;
}
