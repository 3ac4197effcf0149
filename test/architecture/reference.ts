/** The pages of docs/reference, made from the tables that the code itself uses. */
import { readFileSync } from "node:fs";
import { kafkaFields } from "../../src/brokers/kafka/options.js";
import { mqttFields } from "../../src/brokers/mqtt/options.js";
import { natsFields } from "../../src/brokers/nats/options.js";
import { rabbitmqFields } from "../../src/brokers/rabbitmq/options.js";
import { redisFields } from "../../src/brokers/redis/options.js";
import { credentialFields, sqsFields } from "../../src/brokers/sqs/options.js";
import { tlsFields } from "../../src/brokers/tls.js";
import { webhookIntakeFields } from "../../src/brokers/webhooks/intake.js";
import { verifyFields } from "../../src/brokers/webhooks/verify.js";
import { webhookFields } from "../../src/brokers/webhooks/webhook.js";
import { argumentsOf, optionUsage, optionWords, usageOf } from "../../src/cli/help.js";
import { commands, exits } from "../../src/cli/table.js";
import { contractFields } from "../../src/contracts/define.js";
import { type ErrorCode, errorCodes } from "../../src/core/errors.js";
import { limits } from "../../src/core/limits.js";
import { type Field, type Fields, typeInWords } from "../../src/core/options.js";
import { states } from "../../src/core/states.js";
import { durationInWords } from "../../src/core/words.js";
import { listenerFields } from "../../src/http/listener.js";
import {
  auditFields,
  drainFields,
  eraseFields,
  lettersFields,
  paceFields,
  pauseFields,
  purgeFields,
  removeFields,
  replayFields,
  resumeFields,
  waitingFields,
} from "../../src/instance/operate-fields.js";
import { instanceFields, startFields, stopFields, topicFields } from "../../src/instance/options.js";
import { intakeFields } from "../../src/intakes/options.js";
import { batchFields } from "../../src/policies/batch.js";
import { describePolicyAsData } from "../../src/policies/describe.js";
import { policyFields, subscriptionFields } from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import { retryFields } from "../../src/policies/retry-fields.js";
import { askFields } from "../../src/producer/ask.js";
import { sayFields } from "../../src/producer/prepare.js";
import { resultFields, settledFields } from "../../src/producer/receipt.js";
import { relayFields } from "../../src/relays/options.js";
import { scheduleFields } from "../../src/schedules/schedule.js";
import { root } from "./sources.js";

export interface OptionTable {
  /** The exported constant, so that a test can tell whether all of them are here. */
  readonly source: string;
  readonly title: string;
  readonly fields: Fields;
}

const { topic, startFrom } = subscriptionFields;
const relayOptions = Object.fromEntries(
  Object.entries(relayFields).filter(([name, field]) => Reflect.get(policyFields, name) !== field),
);

export const optionTables: readonly OptionTable[] = [
  { source: "instanceFields", title: "`posthorn({ … })`", fields: instanceFields },
  { source: "topicFields", title: "`post.topic(name, { … })`", fields: topicFields },
  { source: "contractFields", title: "`query(name, { … })`", fields: contractFields.query },
  { source: "contractFields", title: "`command(name, { … })`", fields: contractFields.command },
  { source: "contractFields", title: "`event(name, { … })`", fields: contractFields.event },
  { source: "policyFields", title: "`post.queue(name, { … })`: the policy", fields: policyFields },
  {
    source: "subscriptionFields",
    title: "`post.subscription(name, { … })`: the policy, and",
    fields: { topic, startFrom },
  },
  { source: "intakeFields", title: "`post.intake(name, { … })`", fields: intakeFields },
  { source: "relayFields", title: "`post.relay(name, { … })`: the policy, and", fields: relayOptions },
  // `retry.none` is a constant and takes no options.
  { source: "retryFields", title: "`retry.exponential({ … })`", fields: retryFields.exponential },
  { source: "retryFields", title: "`retry.fixed({ … })`", fields: retryFields.fixed },
  {
    source: "batchFields",
    title: "`queue.handleMany(command, { … }, handler)` and `subscription.onMany(event, { … }, handler)`",
    fields: batchFields,
  },
  { source: "retryFields", title: "`retry.delays([…])`", fields: retryFields.delays },
  { source: "retryFields", title: "`retry.custom({ … })`", fields: retryFields.custom },
  { source: "sayFields", title: "`send(command, payload, { … })`", fields: sayFields.send },
  { source: "sayFields", title: "`publish(event, payload, { … })`", fields: sayFields.publish },
  { source: "scheduleFields", title: "`post.schedule(name, { … })`", fields: scheduleFields },
  { source: "settledFields", title: "`receipt.settled({ … })`", fields: settledFields },
  { source: "resultFields", title: "`receipt.result({ … })`", fields: resultFields },
  { source: "startFields", title: "`post.start({ … })`", fields: startFields },
  { source: "stopFields", title: "`post.stop({ … })`", fields: stopFields },
  {
    source: "pauseFields",
    title: "`post.operate.pause(name, { … })` and `renameIntake(from, to, { … })`",
    fields: pauseFields,
  },
  { source: "resumeFields", title: "`post.operate.resume(name, { … })`", fields: resumeFields },
  { source: "drainFields", title: "`post.operate.drain(name, { … })`", fields: drainFields },
  { source: "purgeFields", title: "`post.operate.purge(name, { … })`", fields: purgeFields },
  { source: "lettersFields", title: "`post.operate.redrive({ … })` and `discard({ … })`", fields: lettersFields },
  { source: "replayFields", title: "`post.operate.replay(name, { … })`", fields: replayFields },
  { source: "eraseFields", title: "`post.operate.erase(key, { … })`", fields: eraseFields },
  {
    source: "removeFields",
    title: "`post.operate.removeSubscription(name, { … })` and `removeIntake(name, { … })`",
    fields: removeFields,
  },
  { source: "waitingFields", title: "`post.operate.waiting(name, { … })`", fields: waitingFields },
  { source: "auditFields", title: "`post.operate.audit({ … })`", fields: auditFields },
  { source: "paceFields", title: "`post.operate.continue(operation, { … })`", fields: paceFields },
  { source: "mqttFields", title: "`mqtt({ … })`", fields: mqttFields },
  { source: "webhookFields", title: "`webhook({ … })`", fields: webhookFields },
  { source: "webhookIntakeFields", title: "`webhookIntake({ … })`", fields: webhookIntakeFields },
  { source: "verifyFields", title: "`verifyWebhook(webhook, { … })`", fields: verifyFields },
  { source: "listenerFields", title: "`listener(handler, { … })`", fields: listenerFields },
  { source: "rabbitmqFields", title: "`rabbitmq({ … })`", fields: rabbitmqFields },
  { source: "natsFields", title: "`nats({ … })`", fields: natsFields },
  { source: "kafkaFields", title: "`kafka({ … })`", fields: kafkaFields },
  { source: "redisFields", title: "`redis({ … })`", fields: redisFields },
  { source: "sqsFields", title: "`sqs({ … })`", fields: sqsFields },
  { source: "credentialFields", title: "`credentials` of `sqs({ … })`", fields: credentialFields },
  { source: "tlsFields", title: "`tls` of a broker", fields: tlsFields },
  { source: "askFields", title: "`ask(query, request, { … })`", fields: askFields },
];

const notice = "<!-- Written by `npm run reference` from the tables in src; do not edit. -->";

export function errorsPage(): string {
  const codes = Object.keys(errorCodes) as readonly ErrorCode[];
  const classes = [...new Set(codes.map((code) => errorCodes[code].class))];
  const parts = classes.map((name) => {
    const own = codes.filter((code) => errorCodes[code].class === name);
    const rows = own.map((code) => [
      `\`${code}\``,
      errorCodes[code].retryable ? "may help" : "does not help",
      errorCodes[code].meaning,
    ]);
    return `## ${name}\n\n${table(["Code", "A repetition", "Meaning"], rows)}`;
  });
  return page("Errors", [
    "One class for each thing that a caller does differently, one code for each cause. Decide on the class, on `code` or on\n" +
      "`retryable`, never on the text. Facts stand in `facts`; `cause` keeps what lies beneath.",
    ...parts,
  ]);
}

function presetRows(): readonly (readonly string[])[] {
  const text = readFileSync(`${root}src/policies/presets.ts`, "utf8");
  const meanings = new Map(
    [...text.matchAll(/\/\*\*\n((?: {3}\* .+\n)+) {3}\*\/\n {2}(\w+): preset/g)].map(([, words = "", name = ""]) => [
      name,
      words
        .replace(/^ {3}\* /gm, "")
        .trim()
        .replaceAll("\n", " "),
    ]),
  );
  return Object.entries(policies).map(([name, policy]) => {
    const { attempts, givesUpAfterMs } = describePolicyAsData(policy);
    const { idempotency, ordering, visibilityTimeoutMs } = policy;
    return [
      `\`policies.${name}\``,
      meanings.get(name) ?? "",
      `\`"${idempotency}"\``,
      ordering === "none" ? "none" : `per key, \`${ordering.whenDead}\` when dead`,
      attempts === 1 ? "1" : `${attempts}, within ${durationInWords(givesUpAfterMs ?? 0)}`,
      durationInWords(visibilityTimeoutMs),
    ];
  });
}

export function optionsPage(): string {
  const parts = optionTables.map(({ title, fields }) => {
    const rows = rowsOf(fields, "");
    return `## ${title}\n\n${rows.length > 0 ? table(["Option", "Value", "Default", "Meaning"], rows) : "No options."}`;
  });
  return page("Options", [
    "Durations are in milliseconds and end in `Ms`; `seconds(1)`, `minutes(5)`, `hours(2)` and `days(30)` make them. Unknown\n" +
      "options are refused, and so are options that are planned and not built.",
    ...parts,
    `## \`policies\`\n\nComplete policies to choose from; \`{ ...policies.email, visibilityTimeoutMs: minutes(2) }\` changes one decision. \`describePolicy(policies.email)\` reads one back in words.\n\n${table(["Preset", "For", "Idempotency", "Order", "Attempts", "Visibility timeout"], presetRows())}`,
  ]);
}

export function statesPage(): string {
  const rows = Object.entries(states).map(([name, { ended, meaning }]) => [
    `\`${name}\``,
    ended ? "yes" : "no",
    meaning,
  ]);
  return page("States", [
    "The states of a message for one receiver. The list is closed and the same everywhere.",
    table(["State", "Ended", "Meaning"], rows),
  ]);
}

export function limitsPage(): string {
  const meanings = limitMeanings();
  const rows = Object.entries(limits).map(([name, value]) => [
    `\`${name}\``,
    inWords(name, value),
    meanings.get(name) ?? "",
  ]);
  return page("Limits", [
    "Everything is bounded, and what exceeds a bound is refused with a typed error.",
    table(["Limit", "Value", "Meaning"], rows),
  ]);
}

export function cliPage(): string {
  const parts = Object.entries(commands).map(([name, command]) => {
    const { options, planned, summary, more, wrong } = command;
    if (planned) return `## \`posthorn ${name}\`\n\n${summary}. Planned, not built yet: refused by name.`;
    const rows = [
      ...argumentsOf(command).map(({ name: word, doc }) => [`\`<${word}>\``, doc]),
      ...Object.entries(options).map(([one, option]) => [`\`${optionUsage(one, option)}\``, optionWords(option)]),
    ];
    const ends = `Ends with 1: ${wrong === undefined ? "it failed" : `${wrong.charAt(0).toLowerCase()}${wrong.slice(1)}, or it failed`}.`;
    const words = [`${summary}.`, ...(more === undefined ? [] : [more]), ends].join(" ");
    return `## \`${usageOf(name, command)}\`\n\n${words}\n\n${table(["Option", "Meaning"], rows)}`;
  });
  return page("Command line", [
    "`posthorn <command>` works beside running applications, also on the embedded database. It reads `posthorn.config.ts`, `.js` or\n" +
      "`.mjs`, found from the current folder upwards, which exports the instance as `post` or as default. How to use it is in\n" +
      "[operating](../guides/operating.md), and in [developing](../guides/developing.md) for `dev`.",
    table(
      ["Exit code", "Meaning"],
      Object.entries(exits).map(([code, meaning]) => [code, meaning]),
    ),
    'With `--json` an error is printed as `{ "error": { code, message, facts } }`; the codes are in [errors](errors.md).',
    ...parts,
  ]);
}

/** The comment above each limit is its description. */
export function limitMeanings(): ReadonlyMap<string, string> {
  const text = readFileSync(`${root}src/core/limits.ts`, "utf8");
  return new Map(
    [...text.matchAll(/\/\*\* (.+?) \*\/\n {2}(\w+):/g)].map(([, meaning = "", name = ""]) => [name, meaning]),
  );
}

function inWords(name: string, value: number): string {
  const digits = String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  return name.endsWith("Ms") ? `${digits} (${durationInWords(value)})` : digits;
}

function rowsOf(fields: Fields, prefix: string): readonly (readonly string[])[] {
  return Object.entries(fields).flatMap(([name, field]) => [
    [`\`${prefix}${name}\``, typeInWords(field), defaultOf(field), field.doc],
    ...(field.type === "object" ? rowsOf(field.fields, `${prefix}${name}.`) : []),
  ]);
}

function defaultOf(field: Field): string {
  if (field.required) return "required";
  if (!("default" in field) || field.default === undefined) return "none";
  const value = JSON.stringify(field.default);
  return field.type === "duration" ? `${value} (${durationInWords(Number(value))})` : value;
}

export function page(title: string, parts: readonly string[]): string {
  return `${[notice, `# ${title}`, ...parts].join("\n\n")}\n`;
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), `|${" --- |".repeat(head.length)}`, ...rows.map(line)].join("\n");
}
