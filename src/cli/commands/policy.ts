/** `posthorn policy <queue>`: the policy read back in words. */
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { suggestion } from "../../core/suggest.js";
import { describePolicy, describePolicyAsData } from "../../policies/describe.js";
import { type CheckedPolicy, readStoredPolicy, storedPolicy } from "../../policies/policy.js";
import { registered } from "../../store/operate.js";
import { loadConfig } from "../config.js";
import type { Io } from "../io.js";
import { refuseIntake } from "../names.js";
import { reading } from "../open.js";
import { flag, type Line, text } from "../parse.js";
import { policyHistory, withoutPolicy } from "./policy-history.js";

interface Found {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly policy: CheckedPolicy;
  readonly from: "code" | "database";
}

export async function policy(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  if (flag(line, "history")) return policyHistory(name, line, io);
  const found = text(line, "database") === undefined ? await inCode(name, line) : await inDatabase(name, line);
  const { policy: checked, ...facts } = found;
  if (flag(line, "json")) {
    const words = describePolicy(checked);
    const description = describePolicyAsData(checked);
    io.out(`${JSON.stringify({ ...facts, policy: storedPolicy(checked), description, words })}\n`);
    return 0;
  }
  const what = found.kind === "command" ? `queue '${name}'` : `subscription '${name}' to '${found.channel}'`;
  const lines = describePolicy(checked).split("; ");
  io.out(
    `The ${what}, as ${found.from === "code" ? "the configuration declares it" : "the newest worker declared it"}:\n`,
  );
  io.out(lines.map((one) => `  ${one}\n`).join(""));
  return 0;
}

async function inCode(name: string, line: Line): Promise<Found> {
  const { post } = await loadConfig(text(line, "config"));
  const { declared, intakes = [] } = post["~posthorn"];
  refuseIntake(name, { subscriptions: declared, intakes }, withoutPolicy);
  const found = declared.find((one) => one.name === name);
  if (found === undefined)
    throw unknown(
      name,
      declared.map((one) => one.name),
      "The configuration declares",
    );
  const { kind, channel } = found;
  return { name, kind, channel, policy: found.policy, from: "code" };
}

async function inDatabase(name: string, line: Line): Promise<Found> {
  const known = await reading(line, registered);
  const { subscriptions } = known;
  refuseIntake(name, known, withoutPolicy);
  const found = subscriptions.find((one) => one.name === name);
  if (found === undefined)
    throw unknown(
      name,
      subscriptions.map((one) => one.name),
      "The database knows",
    );
  if (found.policy === null) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `No worker has declared the policy of "${name}" yet: messages were sent to it, and nobody has worked on it.`,
      { name },
    );
  }
  const { kind, channel } = found;
  return { name, kind, channel, policy: readStoredPolicy(found.policy, name), from: "database" };
}

function unknown(name: string, known: readonly string[], who: string): ConfigurationError {
  const message = `${who} no queue or subscription called ${quote(name)}.${suggestion(name, known)}`;
  return new ConfigurationError("PH_ARGUMENT_INVALID", message, { name });
}
