/** `posthorn migrate`: brings the schema up to date, or says or prints what that would be; with --rebase it makes a copy the original. */
import type { Database } from "../../core/database.js";
import { ConfigurationError } from "../../core/errors.js";
import { type IntakeLine, intakeLines } from "../../store/intakes.js";
import { ensureSchema, type MigrationPlan, planMigration } from "../../store/migrate.js";
import { planRebase, type RebasePlan, rebase } from "../../store/rebase.js";
import { makeRoles, rolesIn, rolesScript } from "../../store/roles.js";
import { scriptIn } from "../../store/schema.js";
import { sentences } from "../../store/sqlstate.js";
import { type Io, oneLine } from "../io.js";
import { placeOf, withOpened } from "../open.js";
import { flag, type Line } from "../parse.js";
import { plural } from "../words.js";

/** A rebase reads the whole log once. */
const patienceMs = 3_600_000;

interface Asked {
  readonly dry: boolean;
  readonly print: boolean;
  readonly printRoles: boolean;
  readonly roles: boolean;
  readonly rebase: boolean;
  readonly yes: boolean;
}

interface Found {
  readonly plan: MigrationPlan;
  /** Why this database is not the original; undefined when it is, or when an older schema cannot tell yet. */
  readonly away: RebasePlan | undefined;
  /** Those of a copy: brokers go on where the original was last. */
  readonly intakes: readonly IntakeLine[];
  readonly rebased: boolean;
}

export async function migrate(line: Line, io: Io): Promise<number> {
  const asked = askedOf(line);
  const only = asked.dry || asked.print;
  const place = await placeOf(line);
  if (asked.printRoles) {
    const made = scriptIn(place.schema, rolesScript);
    io.out(flag(line, "json") ? `${JSON.stringify({ script: made })}\n` : `begin;\n${made}\ncommit;\n`);
    return 0;
  }
  const work = (database: Database) => run(database, asked, io);
  const { plan, away, intakes, rebased } = await withOpened(place, work, !only, { statementTimeoutMs: patienceMs });
  const { script: planned, ...facts } = plan;
  const script = scriptIn(place.schema, planned);
  if (flag(line, "json")) {
    const roles = asked.roles ? { roles: rolesIn(place.schema) } : {};
    const behind = away === undefined ? {} : { intakes: intakes.map(behindBroker) };
    const told = { ...facts, migrated: !only && script !== "", ...roles, away: away ?? null, ...behind, rebased };
    io.out(`${JSON.stringify({ ...told, ...(asked.print ? { script } : {}) })}\n`);
  } else if (asked.print) io.out(script === "" ? "-- Nothing to do.\n" : `begin;\n${script}\ncommit;\n`);
  else {
    const roles = asked.roles ? [`Made, or gave their rights to: ${rolesIn(place.schema).join(", ")}.`] : [];
    const done = inWordsOf(away, asked, rebased);
    const brokers = away !== undefined && (rebased || (asked.rebase && only)) ? brokersInWords(intakes) : [];
    io.out(`${[inWords(plan, only), ...roles, ...done, ...brokers].join("\n")}\n`);
  }
  return away === undefined || rebased || (asked.rebase && asked.dry) ? 0 : 1;
}

function askedOf(line: Line): Asked {
  const asked = {
    dry: flag(line, "dry-run"),
    print: flag(line, "print"),
    printRoles: flag(line, "print-roles"),
    roles: flag(line, "with-roles"),
    rebase: flag(line, "rebase"),
    yes: flag(line, "yes"),
  };
  const questions = (["dry-run", "print", "print-roles"] as const).filter((name) => flag(line, name));
  if (questions.length > 1) {
    const message = `--${questions.join(" and --")} are questions of their own. Pass one of them.`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  if (asked.roles && questions.length > 0) {
    const message = `--with-roles changes the server, and --${questions[0]} changes nothing. Pass one of them; --print-roles prints what --with-roles does.`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  if (asked.print && asked.rebase) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      "--print shows the SQL of a migration; what --rebase does cannot be printed. Pass --dry-run, which says what it would do.",
    );
  }
  return asked;
}

async function run(database: Database, asked: Asked, io: Io): Promise<Found> {
  const only = asked.dry || asked.print;
  if (asked.roles && database.single) {
    const message = "--with-roles is for a PostgreSQL server: an embedded database has one user. Leave it out.";
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  const plan = await planMigration(database);
  if (only && plan.script !== "") return { plan, away: undefined, intakes: [], rebased: false };
  if (plan.script !== "") await ensureSchema(database, "auto");
  if (asked.roles) await makeRoles(database);
  const away = await planRebase(database);
  const intakes = away === undefined ? [] : await intakeLines(database);
  if (away === undefined || only || !asked.rebase) return { plan, away, intakes, rebased: false };
  if (!asked.yes && !(await confirmed(away, io))) return { plan, away, intakes, rebased: false };
  const done = await rebase(database);
  // Somebody else has done it meanwhile, where there is nothing more to do.
  return { plan, away: done ?? away, intakes, rebased: true };
}

async function confirmed(away: RebasePlan, io: Io): Promise<boolean> {
  if (!io.answers) {
    throw new ConfigurationError(
      "PH_CONFIRMATION_MISSING",
      `${sentences(away.says)} With --rebase it becomes the original, and nobody can be asked here whether the other one is stopped for good. Pass --yes if it is; nothing was changed.`,
    );
  }
  io.err(`${sentences(away.says)} While the other one works as well, everything is done twice.\n`);
  return /^y(es)?$/i.test(
    (await io.ask("Is the other one stopped for good, and this one to take its place? [y/N] ")).trim(),
  );
}

function inWords({ from, to, migrations, functions, script }: MigrationPlan, only: boolean): string {
  if (script === "") return `The schema has version ${to} and fits; nothing to do.`;
  const steps = migrations.map((name) => `\n  ${name}`).join("");
  const replaced = functions ? "\n  functions, views and rights" : "";
  const what = from === to ? `version ${to}` : `from ${from === 0 ? "nothing" : `version ${from}`} to version ${to}`;
  return `${only ? "Would migrate" : "Migrated"} ${what}:${steps}${replaced}`;
}

function inWordsOf(away: RebasePlan | undefined, asked: Asked, rebased: boolean): readonly string[] {
  if (away === undefined) return asked.rebase ? ["This database is the original already; nothing to rebase."] : [];
  if (!rebased && !asked.rebase) return [sentences(away.says, away.hint)];
  if (!rebased && !asked.dry) return ["Nothing was rebased."];
  const messages = (n: number) => plural(n, "message", "messages");
  return [
    `${rebased ? "Rebased: this database is the original from now on." : "Would rebase, and make this database the original:"}`,
    `  ${messages(away.waiting)} in the log waiting, counted for each reader`,
    `  ${messages(away.missed)} of the log put aside because they had been committed late`,
    `  ${messages(away.held)} freed that ${plural(away.workers, "worker", "workers")} of before held`,
    `  ${messages(away.deferred)} waiting outside of the log`,
  ];
}

function behindBroker({ name, broker, place, lastMessageAt }: IntakeLine) {
  return { name, broker, place, lastMessageAt };
}

/** What an intake took in after the copy was taken is acknowledged and not here, and nothing else tells of it. */
function brokersInWords(intakes: readonly IntakeLine[]): readonly string[] {
  if (intakes.length === 0) return [];
  return [
    "Brokers go on where the original was last. What it took in after this copy was taken does not come again by itself.",
    'Have it given again before the application is started: see "Brokers after a restore" in the guide of moving and restoring.',
    ...intakes.map(({ name, broker, place, lastMessageAt }) => {
      const last =
        lastMessageAt === null ? "has taken in nothing" : `took in its last message here at ${lastMessageAt}`;
      return `  ${name}, from ${broker} ${oneLine(place, 200)}, ${last}`;
    }),
  ];
}
