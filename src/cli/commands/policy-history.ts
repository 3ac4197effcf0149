/** `posthorn policy <queue> --history`: every change of its policy: when, by whom, from what to what. */
import { ConfigurationError } from "../../core/errors.js";
import { differences, shown } from "../../policies/differences.js";
import { type PolicyChange, policyChanges } from "../../store/history.js";
import { registered } from "../../store/operate.js";
import { type Io, table } from "../io.js";
import { refuseIntake } from "../names.js";
import { reading } from "../open.js";
import { flag, type Line, number } from "../parse.js";
import { clock } from "../words.js";

export function withoutPolicy(): string {
  return "It has options and no policy: posthorn intakes list says how it stands, and posthorn check how the configuration differs from the database.";
}

export async function policyHistory(name: string, line: Line, io: Io): Promise<number> {
  const history = await reading(line, async (database) => {
    refuseIntake(name, await registered(database), withoutPolicy);
    return policyChanges(database, name, number(line, "limit"));
  });
  if (history === null) {
    const message = `The database knows no queue or subscription called "${name}".`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message, { name });
  }
  if (flag(line, "json")) {
    const entries = history.map((one) => ({
      ...one,
      changes: one.was === null ? [] : differences(one.was, one.became),
    }));
    io.out(`${JSON.stringify({ name, history: entries })}\n`);
    return 0;
  }
  if (history.length === 0) {
    io.out(`No worker has declared a policy of '${name}' yet.\n`);
    return 0;
  }
  const now = new Date().toISOString();
  const columns = ["When", "Service", "Worker", "Library", "What"].map((title) => ({ title }));
  io.out(
    table(
      io,
      columns,
      history.map((one) => row(one, now)),
    ),
  );
  return 0;
}

function row(one: PolicyChange, now: string): readonly string[] {
  const who = one.host === null ? "" : `pid ${one.pid} on ${one.host}`;
  return [clock(one.changedAt, now), one.service, who, one.library ?? "", inWords(one)];
}

function inWords({ was, became }: PolicyChange): string {
  if (was === null) return "declared for the first time";
  const changes = differences(was, became).map((one) => `${one.path} ${shown(one.was)} → ${shown(one.became)}`);
  return changes.length === 0 ? "taken over by this service, unchanged" : changes.join(", ");
}
