/**
 * `posthorn check`: what can be seen without running a message. Kinds, names and policies are refused where they are declared, so
 * a configuration that loads has passed those; this adds what only the whole shows, and what the database says otherwise.
 */
import { describe } from "../../contracts/contract.js";
import { readableVersions } from "../../contracts/upcast.js";
import { ConfigurationError, PosthornError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { suggestion } from "../../core/suggest.js";
import { isObject } from "../../databases/shapes.js";
import type { Exported } from "../../instance/exported.js";
import { intakeDifferences } from "../../intakes/differences.js";
import type { IntakeDeclaration } from "../../intakes/options.js";
import { predecessorInWords, predecessors } from "../../intakes/predecessors.js";
import { Taken, typesOf } from "../../intakes/types.js";
import { type PolicyDifference, policyDifferences } from "../../policies/differences.js";
import { storedPolicy } from "../../policies/policy.js";
import { type Orphan, orphans } from "../../store/history.js";
import { type IntakeLine, intakeLines } from "../../store/intakes.js";
import { ensureSchema } from "../../store/migrate.js";
import type { RegisteredContract, RegisteredIntake, RegisteredSubscription } from "../../store/operate.js";
import { registered } from "../../store/operate.js";
import { defaultSchema } from "../../store/schema.js";
import { type BacklogLine, backlog } from "../../store/status.js";
import { loadConfig } from "../config.js";
import { type Io, paint, table } from "../io.js";
import { checkedUrl, type Place, refuseOtherSchema, schemaOf, withOpened } from "../open.js";
import { flag, type Line, text } from "../parse.js";
import { plural } from "../words.js";

export interface Finding {
  readonly level: "error" | "warning";
  readonly rule:
    | "config"
    | "database"
    | "kinds"
    | "policies"
    | "handlers"
    | "owners"
    | "unattended"
    | "orphans"
    | "intakes";
  /** The queue, subscription or contract that it is about. */
  readonly about: string;
  readonly message: string;
  /** Of a policy: which decisions are other here than in the database. */
  readonly differences?: readonly PolicyDifference[];
}

interface InDatabase {
  readonly subscriptions: readonly RegisteredSubscription[];
  readonly contracts: readonly RegisteredContract[];
  readonly intakes: readonly RegisteredIntake[];
  readonly lines: readonly BacklogLine[];
  readonly standing: readonly IntakeLine[];
  readonly orphans: readonly Orphan[];
}

/** A configuration may name no database. */
type CheckedPlace = Pick<Place, "schema"> & { readonly input: Exported["database"] };

type Declared = Exported["declared"][number];

export async function check(line: Line, io: Io): Promise<number> {
  const findings = await findingsOf(line);
  const errors = findings.filter(({ level }) => level === "error").length;
  const warnings = findings.length - errors;
  if (flag(line, "json")) io.out(`${JSON.stringify({ ok: errors === 0, findings })}\n`);
  else {
    if (findings.length > 0) {
      io.out(
        table(
          io,
          [{ title: "Level" }, { title: "Rule" }, { title: "About" }, { title: "What" }],
          findings.map(({ level, rule, about, message }) => [
            { text: level, colour: level === "error" ? "red" : "yellow" } as const,
            rule,
            about,
            message,
          ]),
        ),
      );
    }
    const sum = `${plural(errors, "error")}, ${plural(warnings, "warning")}`;
    io.out(findings.length === 0 ? paint(io, "green", "Nothing is wrong.\n") : `\n${sum}\n`);
  }
  return errors > 0 ? 1 : 0;
}

async function findingsOf(line: Line): Promise<readonly Finding[]> {
  let loaded: Awaited<ReturnType<typeof loadConfig>>;
  try {
    loaded = await loadConfig(text(line, "config"));
  } catch (error) {
    // What a declaration refuses is what is to be found; a file that is not there is not.
    const reason = error instanceof ConfigurationError ? error.facts.reason : undefined;
    if (!(error instanceof ConfigurationError) || reason === undefined) throw error;
    return [{ level: "error", rule: "config", about: String(reason), message: error.message }];
  }
  const { service, declared, intakes = [] } = loaded.post["~posthorn"];
  const { input, schema } = placeFor(line, loaded);
  const inCode = declared.flatMap(handlerFindings);
  if (declared.length === 0) {
    inCode.push(warning("handlers", service, "the configuration declares no queue and no subscription"));
  }
  if (flag(line, "offline")) return inCode;
  try {
    const found = await withOpened({ input, schema }, async (opened) => {
      await ensureSchema(opened, "check");
      const [lines, standing] = [await backlog(opened), await intakeLines(opened)];
      return { ...(await registered(opened)), lines, standing, orphans: await orphans(opened) };
    });
    const ofIntakes = [...intakeFindings(service, intakes, found), ...unrunFindings(intakes, found)];
    return [...inCode, ...compare(service, declared, found), ...unsaid(declared, intakes, found), ...ofIntakes];
  } catch (error) {
    if (!(error instanceof PosthornError)) throw error;
    return [
      ...inCode,
      {
        level: "error",
        rule: "database",
        about: error.code,
        message: `${error.message} With --offline the code alone is checked.`,
      },
    ];
  }
}

/** That of --database, else that of the configuration, in whose schema both are. */
function placeFor(line: Line, { file, post }: Awaited<ReturnType<typeof loadConfig>>): CheckedPlace {
  const { database, schema = defaultSchema } = post["~posthorn"];
  const given = text(line, "database");
  const wanted = schemaOf(line);
  if (given !== undefined && flag(line, "offline")) {
    const message =
      "--offline looks at the code alone, and --database names what it is compared with. Pass one of them.";
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message);
  }
  if (given !== undefined) return { input: checkedUrl(given, "database"), schema: wanted ?? schema };
  if (wanted !== undefined) refuseOtherSchema(wanted, schema, file);
  return { input: database, schema };
}

function differing(about: string, differences: readonly PolicyDifference[], when: string): Finding {
  const what = differences.map(
    ({ decision, wasInWords, becameInWords }) => `${decision} is "${becameInWords}" here and "${wasInWords}" there`,
  );
  const message = `differs from what the newest worker declared: ${what.join("; ")}. ${when}`;
  return { ...warning("policies", about, message), differences };
}

function wrong(rule: Finding["rule"], about: string, message: string): Finding {
  return { level: "error", rule, about, message };
}

function warning(rule: Finding["rule"], about: string, message: string): Finding {
  return { level: "warning", rule, about, message };
}

function handlerFindings({ name, kind, handlers, carrier, policy }: Declared): Finding[] {
  const found: Finding[] = [];
  if (handlers.size === 0 && carrier === undefined) {
    const consequence = kind === "command" ? "what it claims is handed back" : "every event of it is skipped";
    found.push(
      wrong("handlers", name, `has no handler in this configuration: ${consequence}. Import the file that adds them`),
    );
  }
  if (policy.deadLetter.keepMs < policy.alerts.oldestAgeMs) {
    found.push(
      warning("policies", name, "dead letters are kept for a shorter time than you wait to be told of an old message"),
    );
  }
  return found;
}

function compare(service: string, declared: readonly Declared[], found: InDatabase): Finding[] {
  const own = declared.flatMap((one) => [
    ...subscriptionFindings(service, one, found.subscriptions),
    ...[...one.handlers.keys()].flatMap((contract) => contractFindings(service, describe(contract), found.contracts)),
  ]);
  const unattended = found.lines
    .filter((one) => one.unattended)
    .map((one) => {
      const isDeclared = declared.some(({ name }) => name === one.name);
      const here = isDeclared ? "; this configuration works on it once it is started" : removal(one);
      const waits = one.backlog > 0 ? `, and ${plural(one.backlog, "message waits", "messages wait")}` : "";
      return warning("unattended", one.name, `no worker works on it now${waits}${here}`);
    });
  // Who brings an event in from outside publishes it; the orphans name an intake that nobody runs.
  const broughtIn = new Set(found.intakes.flatMap(({ contracts }) => contracts));
  const events = found.contracts.filter(
    ({ name, kind, owner }) => kind === "event" && owner === null && !broughtIn.has(name),
  );
  const ownerless = [...new Set(events.map(({ name }) => name))].map((name) =>
    warning(
      "owners",
      name,
      "nobody has published this event yet, and no contract names its owner: the first who publishes it will own it",
    ),
  );
  const cared = caredFor(declared, found.contracts);
  // What nobody works on or runs has a rule of its own.
  const ruled = new Set<Orphan["what"]>(["queue", "subscription", "intake"]);
  const orphaned = found.orphans
    .filter(({ what, name }) => !ruled.has(what) && !cared.has(`${what} ${name}`))
    .map(({ name, detail }) => warning("orphans", name, detail));
  return [...own, ...unattended, ...ownerless, ...orphaned];
}

/** A queue stays: whoever sends to it may know no reader. */
function removal({ kind, name }: BacklogLine): string {
  return kind === "event" ? `; if it is gone for good: posthorn subscriptions remove ${name}` : "";
}

/** Where a relay reads and nothing was ever said, by all that is known here and there: most often its topic is misspelt. */
function unsaid(
  declared: readonly Declared[],
  intakes: readonly IntakeDeclaration[],
  { contracts }: InDatabase,
): Finding[] {
  const inCode = [
    ...declared.flatMap(({ handlers }) => [...handlers.keys()]),
    ...intakes.flatMap((intake) => intake.contracts),
  ].map(describe);
  const known = [...contracts, ...inCode];
  return declared
    .filter(({ carrier }) => carrier !== undefined)
    .flatMap(({ name, kind, channel }) => {
      const channels = new Set(known.filter((one) => one.kind === kind).map((one) => one.channel));
      if (channels.has(channel)) return [];
      const what = kind === "event" ? "topic" : "queue";
      const message = `no contract is known on the ${what} "${channel}": nothing was ever said there.`;
      return [warning("orphans", name, `${message}${suggestion(channel, [...channels].sort())}`)];
    });
}

/** What is no orphan once this configuration is started, named as the database names orphans: it may never have been started. */
function caredFor(declared: readonly Declared[], known: readonly RegisteredContract[]): ReadonlySet<string> {
  const topics = declared.filter(({ kind }) => kind === "event").map(({ channel }) => `topic ${channel}`);
  const handled = declared.flatMap(({ handlers }) =>
    [...handlers.keys()].flatMap((contract) => [
      `${contract.kind} ${contract.name}`,
      ...readableVersions(contract).map((version) => `version ${contract.name} version ${version}`),
    ]),
  );
  // A relay carries whatever is on its channel.
  const carriers = declared.filter(({ carrier }) => carrier !== undefined);
  const carried = known
    .filter((one) => carriers.some(({ kind, channel }) => kind === one.kind && channel === one.channel))
    .map(({ kind, name }) => `${kind} ${name}`);
  return new Set([...topics, ...handled, ...carried]);
}

function subscriptionFindings(service: string, one: Declared, known: readonly RegisteredSubscription[]): Finding[] {
  const before = known.find(({ name }) => name === one.name);
  if (before === undefined) return [];
  if (before.kind !== one.kind || before.channel !== one.channel) {
    const what = before.kind === "command" ? "queue" : "topic";
    return [wrong("kinds", one.name, `reads the ${what} "${before.channel}" in the database. Rename one of them`)];
  }
  const found: Finding[] = [];
  if (before.service !== null && before.service !== service) {
    const shares =
      one.kind === "command" ? "one queue has one handler service" : "each would get only a part of the events";
    found.push(
      wrong("handlers", one.name, `service "${before.service}" works on it too, and this is "${service}": ${shares}`),
    );
  }
  if (before.policy !== null) found.push(...policyFindings(one, before.policy));
  return found;
}

function policyFindings({ name, policy }: Declared, before: unknown): Finding[] {
  const plain: unknown = JSON.parse(JSON.stringify(storedPolicy(policy)));
  const differences = policyDifferences(before, plain, name);
  if (differences.length === 0) return [];
  const fixed = fixedParts(before, plain);
  const when =
    fixed.length === 0
      ? "It counts from the next start on"
      : `A start that changes ${fixed.join(" and ")} is refused while messages have not ended: run posthorn drain ${name} first`;
  return [differing(name, differences, when)];
}

/** Intakes have no policy; what is registered of them is compared, and who has their names. */
function intakeFindings(service: string, declared: readonly IntakeDeclaration[], found: InDatabase): Finding[] {
  const names = new Set(declared.map(({ name }) => name));
  return declared.flatMap((one) => {
    if (found.subscriptions.some(({ name }) => name === one.name)) {
      return [wrong("kinds", one.name, "is a queue or subscription in the database. Rename one of them")];
    }
    const before = found.intakes.find(({ name }) => name === one.name);
    const sources = sourceFindings(service, one, found.contracts);
    if (before === undefined) {
      const renamed = predecessors(one, names, found.intakes);
      return [...sources, ...renamed.map((old) => warning("intakes", one.name, predecessorInWords(old, one.name)))];
    }
    if (before.service !== service) {
      return [
        wrong(
          "handlers",
          one.name,
          `is an intake of service "${before.service}", and this is "${service}". Rename one of them. Where the service was renamed, stop its old processes and run posthorn intakes remove ${one.name}`,
        ),
      ];
    }
    const differences = intakeDifferences(before, one);
    if (differences.length > 0) sources.push(differing(one.name, differences, "It counts from the next start on"));
    return [...sources, ...skippedFindings(one, found.standing)];
  });
}

/** One that has only ever passed over what came may have its prefix mistyped. */
function skippedFindings(declared: IntakeDeclaration, standing: readonly IntakeLine[]): Finding[] {
  const { name, types, contracts, typePrefix } = declared;
  const line = standing.find((one) => one.name === name);
  if (line === undefined || line.written > 0 || line.skippedType === null) return [];
  const taken = typesOf(types, contracts, typePrefix);
  if (taken.includes(line.skippedType)) return [];
  const message = `has written nothing, and passed over what came (${line.skipped}): no contract has the type ${quote(line.skippedType)} of the last; ${new Taken(taken).inWords(line.skippedType)}. If that type is meant, mend typePrefix or name it in types`;
  return [warning("intakes", name, message)];
}

/** An event that is published here has its source here, unless the contract names another one: a start with the intake would be refused. */
function sourceFindings(
  service: string,
  { name, contracts }: IntakeDeclaration,
  known: readonly RegisteredContract[],
): Finding[] {
  return contracts.flatMap((contract) => {
    const found = contractFindings(service, describe(contract), known);
    const { owner } = known.find((one) => one.name === contract.name) ?? {};
    if (owner !== service || (contract.owner ?? service) !== service) return found;
    const message = `${contract.name} is published here, and this service owns it: what brings it in from outside is refused. Leave it out, or name the service it comes from as its owner`;
    return [...found, wrong("owners", name, message)];
  });
}

/** Of one that this configuration does not declare it says what it brings in, and how it is removed. */
function unrunFindings(declared: readonly IntakeDeclaration[], { orphans: unrun }: InDatabase): Finding[] {
  return unrun
    .filter(({ what }) => what === "intake")
    .map(({ name, detail }) =>
      declared.some((one) => one.name === name)
        ? warning("unattended", name, "no process runs it now; this configuration runs it once it is started")
        : warning("orphans", name, detail),
    );
}

/** What of a policy may change only while nothing is unsettled. Whether order is kept, not what a dead message does to its key. */
function fixedParts(was: unknown, became: unknown): readonly string[] {
  if (!isObject(was) || !isObject(became)) return [];
  const differs = {
    idempotency: Reflect.get(was, "idempotency") !== Reflect.get(became, "idempotency"),
    ordering: isObject(Reflect.get(was, "ordering")) !== isObject(Reflect.get(became, "ordering")),
  };
  return Object.entries(differs).flatMap(([name, is]) => (is ? [name] : []));
}

function contractFindings(
  service: string,
  own: ReturnType<typeof describe>,
  known: readonly RegisteredContract[],
): Finding[] {
  const before = known.find(({ name }) => name === own.name);
  if (before === undefined) return [];
  const by = `service "${before.by}" registered it`;
  if (before.kind !== own.kind)
    return [
      wrong("kinds", own.name, `is ${own.kind === "event" ? "an event" : "a command"} here; ${by} as ${before.kind}`),
    ];
  if (before.channel !== own.channel) {
    return [wrong("kinds", own.name, `is carried by "${own.channel}" here; ${by} on "${before.channel}"`)];
  }
  if (before.keyed !== own.keyed) {
    return [
      wrong(
        "kinds",
        own.name,
        `${own.keyed ? "has a key" : "has no key"} here; ${by} ${before.keyed ? "with" : "without"} one`,
      ),
    ];
  }
  // Who owns it gives it away by naming another.
  if (own.owner !== null && before.owner !== null && own.owner !== before.owner && before.owner !== service) {
    return [wrong("owners", own.name, `names "${own.owner}" as its owner; it belongs to "${before.owner}"`)];
  }
  return [];
}
