/**
 * The commands of the command line as data: parser, help and docs/reference/cli.md come from this table, and nothing says an option twice.
 *
 * An option has the same type wherever it occurs, so that a line can be read before its command is known.
 */
import { limits } from "../core/limits.js";

export interface Option {
  readonly type: "flag" | "text" | "number";
  /** What stands for the value in help. */
  readonly value?: string;
  readonly doc: string;
  /** May be given several times. */
  readonly many?: true;
  readonly min?: number;
  readonly max?: number;
  readonly default?: number;
}

export interface Argument {
  readonly name: string;
  readonly doc: string;
  readonly required: boolean;
}

export interface Command {
  readonly summary: string;
  /** Sentences for whoever asks for help with this command. */
  readonly more?: string;
  readonly argument?: Argument;
  /** Behind the first, and as needed as that. */
  readonly second?: Argument;
  readonly options: Readonly<Record<string, Option>>;
  /** When it ends with 1; without it, only for failures. */
  readonly wrong?: string;
  /** Refused by name. */
  readonly planned?: true;
}

const json: Option = { type: "flag", doc: "Print JSON and nothing else, errors as well" };
const help: Option = { type: "flag", doc: "Print what this command does and which options it takes" };
const config: Option = {
  type: "text",
  value: "file",
  doc: "The configuration file; without it, the nearest one from here upwards",
};
const database: Option = {
  type: "text",
  value: "url",
  doc: "A postgres:// URL or embedded:<folder>, in place of the configuration",
};

/** Options of every command. */
export const everywhere = { json, help } as const;
const schema: Option = {
  type: "text",
  value: "name",
  doc: "With --database: the schema of the installation; without it posthorn",
};
const looks = { ...everywhere, config, database, schema };

const queue: Option = { type: "text", value: "name", doc: "Only this queue" };
const subscription: Option = { type: "text", value: "name", doc: "Only this subscription" };
const ofQueue = { queue, subscription } as const;
const contract: Option = { type: "text", value: "name", doc: "Only messages of this contract" };
const limit: Option = { type: "number", value: "n", doc: "How many to show", min: 1, max: 1_000, default: 20 };
const all: Option = { type: "flag", doc: "All that the other options leave, in place of one id" };
const yes: Option = { type: "flag", doc: "Do not ask; needed where nobody can be asked" };
const reason: Option = { type: "text", value: "text", doc: "Why; kept with the message" };
const why: Option = { type: "text", value: "text", doc: "Why; kept in the record" };
const group: Option = {
  type: "text",
  value: "fingerprint",
  doc: "Only messages whose newest error is of this group, as `errors` shows it, in place of one id",
};
const rate: Option = {
  type: "number",
  value: "n",
  doc: "At most so many a second; as fast as it goes without it",
  min: 1,
  max: 100_000,
};
const reader = { name: "name", doc: "The name of a queue or subscription", required: true } as const;
const orIntake = { ...reader, doc: "The name of a queue, subscription or intake" } as const;
const operation = { name: "number", doc: "The number of an operation, as `audit` shows it", required: true } as const;

const everyMs = { type: "number", value: "ms", min: 100, max: 3_600_000 } as const;
const port = { type: "number", value: "port", min: 1, max: 65_535 } as const;
const graceMs: Option = {
  type: "number",
  value: "ms",
  doc: "How long running handlers may take to finish; then their messages are handed back",
  min: 0,
  max: limits.waitMs,
};

const oneId = { name: "id", doc: "The id of a message, as `send` returned it", required: true } as const;
const orAll = { ...oneId, required: false } as const;
const nothing = "The id is in no such list, or no message is of the group";

const dead = "messages whose attempts are spent, or that must not be repeated";
const invalid = "messages that did not fit their schema on arrival, and what intakes took in that fits no contract";

const intake: Option = { type: "text", value: "name", doc: "Only what this intake took in" };

const reread =
  " What an intake took in is read again by whoever runs it, within about a second, 20 a second at most and whatever `--rate` says; where a message of the same id has been taken in since, it ends as a duplicate of that. `--all` takes these as well, unless a queue, subscription, contract or group is named.";
const removed =
  " What an intake took in is removed; `--all` takes these as well, unless a queue, subscription, contract or group is named.";

function letters(what: string, meaning: string, ofIntake: Readonly<Record<string, Option>> = {}) {
  const [again, gone] = Object.keys(ofIntake).length === 0 ? ["", ""] : [reread, removed];
  return {
    [`${what} list`]: {
      summary: `List ${meaning}, the newest first`,
      options: { ...looks, ...ofQueue, ...ofIntake, contract, limit },
    },
    [`${what} show`]: {
      summary: "Show one with its payload, headers and every attempt",
      argument: oneId,
      options: looks,
      wrong: nothing,
    },
    [`${what} redrive`]: {
      summary: "Give one, or all, a new delivery that is due at once",
      more: `Attempts start anew and the history is kept. Each is redriven once, however many ask at the same time. All are taken in the order of the list; those that fail again meanwhile are not taken again.${again}`,
      argument: orAll,
      options: { ...looks, all, group, ...ofQueue, ...ofIntake, contract, rate, yes },
      wrong: nothing,
    },
    [`${what} discard`]: {
      summary: "End one, or all, for good",
      more: `The payload is gone. Who discarded it, when and why is kept for as long as a dead letter would be.${gone}`,
      argument: orAll,
      options: { ...looks, reason, all, group, ...ofQueue, ...ofIntake, contract, rate, yes },
      wrong: nothing,
    },
  } as const;
}

export const commands: Readonly<Record<string, Command>> = {
  status: {
    summary: "Show what waits, runs and went wrong in each queue and subscription, and open alerts",
    more: "Messages that workers hold are counted apart from those that wait. A bound that is crossed counts as an open alert, also when no worker is there to raise it. Dead letters and invalid messages raise alerts, as does an intake that is not connected, refuses messages, or has taken in what fits nothing.",
    options: {
      ...looks,
      watch: { type: "flag", doc: "Look again and again until it is interrupted" },
      "every-ms": { ...everyMs, doc: "Time between two looks of --watch", default: 2_000 },
    },
    wrong: "An alert is open",
  },
  waiting: {
    summary: "List the oldest messages of a queue or subscription that have not ended, with their ids",
    more: "In the order in which they were said, with what the last run of each said; `why <id>` says more. It reads what it shows and no more, however much waits: outside of the log the 10,000 that were said first are looked at, those that are due next, and those that run.",
    argument: reader,
    options: {
      ...looks,
      limit,
      state: {
        type: "text",
        value: "state",
        doc: "Only what is queued, scheduled, retrying, parked or running; without it all, but not what is scheduled for later",
        many: true,
      },
    },
  },
  why: {
    summary: "Say in one sentence why a message is where it is, for each of its receivers",
    argument: oneId,
    options: looks,
    wrong: "No message has this id",
  },
  cancel: {
    summary: "Take a command back: one that waits will not run, and the signal of one that runs fires",
    more: "A run that fails then is cancelled and not tried again; one that succeeds all the same has succeeded. Who cancelled it and when is kept for as long as a dead letter would be.",
    argument: oneId,
    options: looks,
    wrong: "It has ended already, or no command has this id",
  },
  ...letters("dead-letters", dead),
  ...letters("invalid", invalid, { intake }),
  errors: {
    summary: "Group the errors of waiting and dead messages by what they have in common",
    more: "By queue, contract, name, code, the message without numbers, ids and quoted values, and the first line of the stack. Every failed attempt counts. Circuits that are open are named as well, with how many messages wait behind them: these need not have an error of their own.",
    options: { ...looks, ...ofQueue, contract, limit },
  },
  alerts: {
    summary: "List open alerts, and those that were resolved last",
    options: { ...looks, limit },
    wrong: "An alert is open",
  },
  pause: {
    summary: "Stop the fleet from taking messages of a queue, subscription or intake, within about a second",
    more: "What runs goes on to its end. What is said is kept, and schedules go on sending. Alerts still look at how long the oldest waits.",
    argument: orIntake,
    options: { ...looks, reason: why },
  },
  resume: {
    summary: "End a pause: workers take messages again within a second",
    argument: orIntake,
    options: looks,
  },
  drain: {
    summary: "Wait until nothing of a queue or subscription waits or runs",
    more: "It changes nothing: workers do the work, and what is said meanwhile is waited for as well. Dead letters and invalid messages have ended. A queue that is paused is refused.",
    argument: reader,
    options: {
      ...looks,
      "within-ms": {
        type: "number",
        value: "ms",
        doc: "How long to wait",
        min: 0,
        max: limits.waitMs,
        default: 600_000,
      },
    },
    wrong: "Something was left when the time was over",
  },
  purge: {
    summary: "End all that waits in a queue or subscription and has not begun",
    more: "Each message ends as discarded; who did it and why is kept for as long as a dead letter would be. What runs is left alone, and so is what is said after the purge began. Dead letters and invalid messages stay.",
    argument: reader,
    options: {
      ...looks,
      reason,
      state: { type: "text", value: "state", doc: "Only what is queued, scheduled, retrying or parked", many: true },
      yes,
    },
  },
  replay: {
    summary: "Have messages of a time handled once more that were handled",
    more: "In the order in which they were said; per key where order is kept. What waits, runs, is dead, invalid, cancelled, discarded or expired is passed over, and so is what no worker has a handler for.",
    argument: reader,
    options: {
      ...looks,
      from: { type: "text", value: "time", doc: "Messages that were said from then on, such as 2026-05-14T09:00:00Z" },
      to: { type: "text", value: "time", doc: "Messages that were said before then; without it all until now" },
      contract,
      rate,
      reason: why,
      yes,
    },
  },
  erase: {
    summary: "Overwrite all that was said under a key, and remove what came of it",
    more: "Payloads, headers, errors, results, steps and progress go, from the log and from every list; ids, keys, times and outcomes stay. What has not begun ends as discarded. What runs goes on to its end and does not run again; the command waits for it.",
    options: {
      ...looks,
      key: { type: "text", value: "key", doc: "The key that the messages were said with" },
      contract,
      channel: { type: "text", value: "name", doc: "Only messages of this queue or topic" },
      reason: why,
      yes,
    },
  },
  "subscriptions list": {
    summary: "List all queues and subscriptions with what they have not read, and who is paused",
    options: looks,
  },
  "subscriptions remove": {
    summary: "Remove a subscription with all that it has not handled",
    more: "What is unread, waiting, parked, dead or invalid for it is counted before and said. Refused while a worker works on it. A process that declares it makes it anew at its next start; that one begins where it says, by default with what is said from then on.",
    argument: { name: "subscription", doc: "The name of a subscription", required: true },
    options: { ...looks, reason: why, yes },
  },
  "intakes list": {
    summary: "List all intakes: who runs them, whether they are connected, and what they took in",
    options: looks,
  },
  "intakes find": {
    summary: "Say whether what a sender calls so was taken in, by which intake and when, or fitted nothing",
    more: "By the id of a CloudEvent and its source, or by the id that its sender gave it in the broker's own way. It is known for as long as the inbox of its intake keeps it; under which id it was stored here is not kept with it.",
    argument: { name: "id", doc: "The id that its sender gave it", required: true },
    options: {
      ...looks,
      source: {
        type: "text",
        value: "source",
        doc: "The source of the CloudEvent; of a relay of Posthorn urn:posthorn:<service>, unless it names another",
      },
    },
    wrong: "No intake knows it",
  },
  "intakes rename": {
    summary: "Carry an intake over to another name: what it took in is recognised under that one",
    more: "Its list of what fitted nothing, its figures and a pause go with it, at once and however large the inbox is; its open alerts end. Where an intake of the new name is known already, since it was started before, the two become one with the newer declaration, which nothing undoes: what either took in is recognised, and what fitted nothing is listed once. Refused while a process runs one of the two. At the broker nothing changes; what another name means there is said.",
    argument: { name: "intake", doc: "The name of an intake", required: true },
    second: { name: "to", doc: "The name that it is to have", required: true },
    options: { ...looks, reason: why },
  },
  "intakes remove": {
    summary: "Remove an intake that is gone from the code, with what fitted nothing",
    more: "How much that is is counted before and said. Refused while a process runs it. What it took in stays; what stays at the broker, a queue that goes on filling for instance, is said. Its events may be published here from then on. A process that declares it makes it anew; what that one is given again is recognised for as long as the inbox keeps it.",
    argument: { name: "intake", doc: "The name of an intake", required: true },
    options: { ...looks, reason: why, yes },
  },
  audit: {
    summary: "List what operators did, and what is under way",
    options: {
      ...looks,
      limit,
      unfinished: { type: "flag", doc: "Only what runs or was interrupted" },
    },
    wrong: "An operation was interrupted: nobody has gone on with it for 30 s",
  },
  "audit continue": {
    summary: "Go on with an operation that was interrupted",
    argument: operation,
    options: { ...looks, rate },
  },
  "audit stop": {
    summary: "End an operation where it is; what is done stays done",
    argument: operation,
    options: looks,
    wrong: "It does not run",
  },
  "schedules list": {
    summary: "List schedules with their next time and the message that they sent last",
    more: "Times are those of this machine. A schedule is overdue when nobody has sent its command a minute after it was due: no process works that can, or the command cannot be made.",
    options: looks,
    wrong: "A schedule is overdue",
  },
  "schedules remove": {
    summary: "Remove a schedule: nothing more is sent by it, and what it has sent stays",
    more: "A process that declares it makes it anew at its next start, and sends nothing of the time between.",
    argument: { name: "schedule", doc: "The name of a schedule", required: true },
    options: looks,
  },
  policy: {
    summary: "Read the policy of a queue or subscription back in words",
    more: "As the configuration declares it; with --database as the newest worker declared it.",
    argument: { name: "queue", doc: "The name of a queue or subscription", required: true },
    options: {
      ...looks,
      history: { type: "flag", doc: "How it changed instead: when, by which worker, from what to what" },
      limit,
    },
  },
  check: {
    summary: "Check kinds, names, policies, handlers and owners, and compare them with the database",
    options: {
      ...everywhere,
      config,
      database: { ...database, doc: "The database to compare with, in place of that of the configuration" },
      schema: {
        ...schema,
        doc: "With --database: the schema of the installation; without it that of the configuration",
      },
      offline: { type: "flag", doc: "Look at the code alone, not at the database" },
    },
    wrong: "Something is wrong; warnings alone do not count",
  },
  migrate: {
    summary: "Bring the schema of the database to that of this version",
    more: "A copy of a database is refused by everything that writes, because two that work on the same messages do everything twice. --rebase makes the copy the original: what was not settled in it is worked on here, and nothing that was. Stop the other one for good before.",
    options: {
      ...looks,
      rebase: {
        type: "flag",
        doc: "Make this copy the original from now on; nothing happens where it is that already",
      },
      yes: { ...yes, doc: "Do not ask; needed with --rebase where nobody can be asked" },
      "dry-run": { type: "flag", doc: "Say what would be done, and do nothing" },
      print: { type: "flag", doc: "Print the SQL that would be run, and do nothing" },
      "with-roles": {
        type: "flag",
        doc: "Make the roles of a producer, a worker and an observer as well, or renew their rights; needs the right to make roles",
      },
      "print-roles": { type: "flag", doc: "Print the SQL that makes these roles, and do nothing" },
    },
    wrong: "The database is a copy and was not rebased, or was moved elsewhere",
  },
  move: {
    summary: "Move everything that Posthorn holds to another database, and mark the source as left",
    more: "The application must be stopped. The target must not hold anything of Posthorn's. Interrupted, the same command begins again or finishes what is left; the source is the owner until it says where it went. Tables of your own are not moved.",
    options: {
      ...everywhere,
      from: { type: "text", value: "url", doc: "The source: a postgres:// URL or embedded:<folder>" },
      to: { type: "text", value: "url", doc: "The target" },
      schema: { ...schema, doc: "The schema of the installation, the same in both; without it posthorn" },
      "dry-run": { type: "flag", doc: "Say what stands in the way, and do nothing" },
    },
    wrong: "Something stands in the way",
  },
  start: {
    summary: "Work on the queues, subscriptions, relays and intakes of the configuration until it is told to stop",
    more: "All that is declared, or what is named; where a queue is named, no intake runs that is not named as well. SIGINT and SIGTERM let running handlers finish; a second one ends it at once. Under npm or npx, which hand SIGTERM on to nobody, it stops in the same way when they are gone.",
    options: {
      ...everywhere,
      config,
      queue: { ...queue, many: true },
      subscription: { ...subscription, doc: "Only this subscription or relay", many: true },
      intake: { ...intake, doc: "Only this intake", many: true },
      "grace-ms": { ...graceMs, default: 20_000 },
      port: {
        ...port,
        doc: "Answer probes and autoscalers on this port: /health, /ready and /scaling; without it on none",
      },
      host: {
        type: "text",
        value: "address",
        doc: "The address for --port; without it 0.0.0.0, so that the cluster reaches it",
      },
    },
  },
  dev: {
    summary: "Work as start does, restart at each change of a source, and catch mails and webhooks",
    more: "Your code runs in a process of its own. What changed restarts it; what cannot be loaded is shown, and the next change tries again; what was killed starts again by itself. Sources are files that end in .ts, .js, .mjs, .cjs, .jsx, .tsx and .json, and .env files, in the folder of the configuration; node_modules and folders that begin with a dot are passed over. For your code SMTP_URL, SMTP_HOST and SMTP_PORT name the mail catcher, and WEBHOOK_URL an address below which every request is caught. The schema of a database on this machine is migrated. With --json each line is one event.",
    options: {
      ...everywhere,
      config,
      embedded: {
        type: "text",
        value: "folder",
        doc: "Set DATABASE_URL to this embedded database; refused where the configuration uses another one all the same",
      },
      also: { type: "text", value: "folder", doc: "Watch the sources in this folder as well", many: true },
      ignore: { type: "text", value: "folder", doc: "Do not watch this folder", many: true },
      "mail-port": { ...port, doc: "The port of the mail catcher; without it 1025, or a free one" },
      "web-port": { ...port, doc: "The port of the webhook catcher and its page; without it 1080, or a free one" },
      "no-catch": { type: "flag", doc: "Catch nothing, and leave the environment as it is" },
      migrate: { type: "flag", doc: "Migrate the schema also where the database is not on this machine" },
      "every-ms": { ...everyMs, doc: "Time between two looks at the queues", default: 1_000 },
      "grace-ms": { ...graceMs, default: 2_000 },
    },
    wrong: "It was told to end a second time before it had stopped",
  },
  help: {
    summary: "Print the commands, or what one does",
    argument: { name: "command", doc: "A command", required: false },
    options: everywhere,
  },
};

/** What the exit codes mean. */
export const exits = {
  0: "Done, and nothing is wrong",
  1: "Something is wrong: what the command looked for (see each command), or it failed",
  2: "The line, the configuration or a missing confirmation: nothing was done",
} as const;
