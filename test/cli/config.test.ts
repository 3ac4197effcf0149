/** What needs the instance itself: start, check, migrate. */
import { Client } from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { policies } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { posthornCommand, project } from "./command.js";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

const minute = 60_000;
const between = (was: unknown, became: unknown, wasInWords: string, becameInWords: string) => ({
  ...(was !== undefined && { was }),
  became,
  wasInWords,
  becameInWords,
});
const shop = (url: string, body: string, service = "shop") => `
import { command, event, policies, posthorn, retry as retries, type } from "posthorn";
const schema = type();
export const post = posthorn({ service: "${service}", database: ${JSON.stringify(url)} });
${body}`;
const full = `
post.queue("email", policies.email).handle(command("SendEmail", { queue: "email", schema }), () => console.log("handled"));
post.subscription("audit", { topic: "orders", ...policies.email }).on(event("OrderPlaced", { topic: "orders", schema }), () => undefined);`;

test("migrate says what it would do, prints the SQL of it, does it, and has nothing left to do", async () => {
  const fresh = await createDatabase({ empty: true });
  const cli = (...args: readonly string[]) => posthornCommand(["migrate", ...args, "--database", fresh.url]);
  try {
    const dry = await cli("--dry-run");
    expect(dry).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^Would migrate from nothing to version \d+:\n {2}0001_registry\n/),
    });
    expect((await cli("--dry-run")).out).toBe(dry.out);
    const printed = await cli("--print");
    expect(printed.out).toMatch(/^begin;\n[\s\S]+create schema posthorn;[\s\S]+\ncommit;\n$/);
    const client = new Client({ connectionString: fresh.url });
    await client.connect();
    await client.query(printed.out);
    await client.end();
    expect((await cli()).out).toMatch(/fits; nothing to do/);
    expect((await cli("--print")).out).toBe("-- Nothing to do.\n");
  } finally {
    await fresh.drop();
  }
});

test("a command on a database without the schema says how to make it, and makes nothing", async () => {
  const fresh = await createDatabase({ empty: true });
  try {
    const ended = await posthornCommand(["status", "--database", fresh.url]);
    expect(ended).toMatchObject({ code: 1, out: "" });
    expect(ended.err).toMatch(/has no Posthorn schema.*PH_SCHEMA_MISSING/);
    expect((await posthornCommand(["migrate", "--dry-run", "--database", fresh.url])).out).toMatch(
      /^Would migrate from nothing/,
    );
  } finally {
    await fresh.drop();
  }
});

test("start works on what the configuration declares until SIGTERM, and lets it be chosen by name", async () => {
  await posthornCommand(["migrate", "--database", database.url]);
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, full) });
  const run = (...args: readonly string[]) => spawnFixture("src/cli/main.ts", { args: ["start", ...args], cwd });
  const worker = await run("--queue", "email");
  await worker.line(/^shop works on email \(pid \d+\)$/);
  const lines = JSON.parse((await posthornCommand(["status", "--database", database.url, "--json"])).out).lines;
  expect(lines).toMatchObject([{ name: "email", workers: 1 }]);
  const client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query("select posthorn.send('SendEmail', '{}')");
  await client.end();
  await worker.line("handled");
  worker.kill("SIGTERM");
  await worker.line("stopped");
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect((await posthornCommand(["status", "--database", database.url])).out).toMatch(/^email .+ none$/m);

  const all = await run("--json");
  expect(JSON.parse(await all.line(/^\{"event":"started"/))).toMatchObject({
    service: "shop",
    worksOn: ["email", "audit"],
  });
  all.kill("SIGINT");
  expect(await all.exited).toEqual({ code: 0, signal: null });

  const unknown = await posthornCommand(["start", "--queue", "emai"], { cwd });
  expect(unknown.code).toBe(2);
  expect(unknown.err).toMatch(/start\(\) names the queue "emai", which is not declared\. Did you mean "email"\?/);
});

test("start runs the intakes that are named, and without names all, and says so", async () => {
  const own = await createDatabase();
  onTestFinished(() => own.drop());
  const body = `${full}
const receiver = { receive: () => new Promise((resolve) => setTimeout(resolve, 100, [])), acknowledge: async () => {}, close: async () => {} };
const from = { kind: "own", where: "here", features: { receives: true }, style: {}, openSender() {}, openReceiver: async () => receiver };
post.intake("paid-in", { from, into: [event("OrderPaid", { topic: "paid", owner: "far", schema })] });`;
  const cwd = await project({ "posthorn.config.mjs": shop(own.url, body) });
  for (const [args, says] of [
    [["--intake", "paid-in"], "paid-in"],
    [["--intake", "paid-in", "--queue", "email"], "email, paid-in"],
    [[], "email, audit, paid-in"],
  ] as const) {
    const worker = await spawnFixture("src/cli/main.ts", { args: ["start", ...args], cwd });
    await worker.line(new RegExp(`^shop works on ${says} \\(pid \\d+\\)$`));
    const runs = async () => (await posthornCommand(["intakes", "list", "--json"], { cwd })).out;
    await eventually(async () =>
      expect(JSON.parse(await runs())).toMatchObject({ intakes: [{ name: "paid-in", connected: true }] }),
    );
    worker.kill("SIGTERM");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
  }
});

test("a worker of start that is killed leaves its queue unattended, which status shows", async () => {
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, full) });
  const worker = await spawnFixture("src/cli/main.ts", { args: ["start"], cwd });
  await worker.line(/works on email, audit/);
  worker.kill();
  await worker.exited;
  await eventually(async () => /^audit .+ none$/m.test((await posthornCommand(["status"], { cwd })).out));
});

test("check passes what is right, and finds a queue without a handler with 1", async () => {
  const right = await project({ "posthorn.config.mjs": shop(database.url, full) });
  expect(await posthornCommand(["check", "--offline"], { cwd: right })).toMatchObject({
    code: 0,
    out: "Nothing is wrong.\n",
  });
  const wrong = await project({ "posthorn.config.mjs": shop(database.url, 'post.queue("sms", policies.email);') });
  const ended = await posthornCommand(["check", "--offline", "--json"], { cwd: wrong });
  expect(ended.code).toBe(1);
  expect(JSON.parse(ended.out)).toEqual({
    ok: false,
    findings: [
      {
        level: "error",
        rule: "handlers",
        about: "sms",
        message: expect.stringContaining("has no handler in this configuration"),
      },
    ],
  });
});

test.each([
  [
    "a name that reads as another kind",
    'event("SendEmail", { topic: "orders", schema });',
    "PH_NAME_INVALID",
    /does not read as a fact/,
  ],
  [
    "a policy that lacks a decision",
    'const { retry, ...rest } = policies.email;\npost.queue("sms", rest);',
    "PH_OPTION_MISSING",
    /lacks the decision retry/,
  ],
  [
    "the wrong kind for the verb",
    'post.queue("sms", policies.email).handle(event("SmsSent", { topic: "orders", schema }), () => 0);',
    "PH_WRONG_KIND",
    /event/,
  ],
])("check finds %s, and says it with 1", async (_what, body, code, words) => {
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, body) });
  const ended = await posthornCommand(["check", "--offline", "--json"], { cwd });
  expect(ended).toMatchObject({ code: 1, err: "" });
  const { findings } = JSON.parse(ended.out);
  expect(findings).toMatchObject([{ level: "error", rule: "config", about: code }]);
  expect(findings[0].message).toMatch(words);
});

test("check compares with the database: kind, queue, owner, service, policy, and who works", async () => {
  await posthornCommand(["migrate", "--database", database.url]);
  const first = await project({ "posthorn.config.mjs": shop(database.url, full) });
  const worker = await spawnFixture("src/cli/main.ts", { args: ["start"], cwd: first });
  await worker.line(/works on/);
  expect(await posthornCommand(["check"], { cwd: first })).toMatchObject({
    code: 0,
    out: expect.stringContaining("owners"),
  });
  worker.kill("SIGTERM");
  await worker.exited;
  const other = `
post.queue("mail2", policies.email).handle(command("SendEmail", { queue: "mail2", schema }), () => undefined);
post.queue("email", { ...policies.email, visibilityTimeoutMs: 5, rateLimit: { messages: 5, perMs: 1000 } }).handle(command("PlaceOrder", { queue: "email", schema }), () => undefined);
post.queue("audit", policies.email).handle(command("AuditOrder", { queue: "audit", schema }), () => undefined);`;
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, other, "billing") });
  const ended = await posthornCommand(["check", "--json"], { cwd });
  expect(ended.code).toBe(1);
  const { findings } = JSON.parse(ended.out);
  const said = findings.map(({ level, rule, about }: Record<string, string>) => `${level} ${rule} ${about}`).sort();
  expect(said).toEqual([
    "error handlers email",
    "error kinds SendEmail",
    "error kinds audit",
    "warning owners OrderPlaced",
    "warning policies email",
    "warning unattended audit",
    "warning unattended email",
  ]);
  const differs = findings.find(({ rule, about }: Record<string, string>) => rule === "policies" && about === "email");
  const rateLimit = { messages: 5, perMs: 1_000, burst: 1 };
  expect(differs.differences).toEqual([
    {
      decision: "visibilityTimeoutMs",
      ...between(minute, 5, "a run is ended after 1 min", "a run is ended after 5 ms"),
    },
    {
      decision: "rateLimit",
      ...between(undefined, rateLimit, "none", "no faster in the whole fleet than 5 in 1 s, one at a time"),
    },
  ]);
  expect(differs.message).toBe(
    'differs from what the newest worker declared: visibilityTimeoutMs is "a run is ended after 5 ms" here and "a run is ended after 1 min" there; ' +
      'rateLimit is "no faster in the whole fleet than 5 in 1 s, one at a time" here and "none" there. It counts from the next start on',
  );
  const text = await posthornCommand(["check"], { cwd });
  expect(text.out).toContain(differs.message);
  expect(text.out).toMatch(/^error +kinds +audit +reads the topic "orders" in the database/m);
  expect(text.out).toMatch(/^3 errors, 4 warnings$/m);
});

test("a queue whose waits a function of its code tells differs in nothing from itself", async () => {
  const body =
    'post.queue("custom", { ...policies.email, retry: retries.custom({ attempts: 3, delayMs: () => 5 }) }).handle(command("DoCustom", { queue: "custom", schema }), () => undefined);';
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, body, "customs") });
  const worker = await spawnFixture("src/cli/main.ts", { args: ["start"], cwd });
  await worker.line(/works on custom/);
  expect(JSON.parse((await posthornCommand(["check", "--json"], { cwd })).out).findings).not.toContainEqual(
    expect.objectContaining({ about: "custom" }),
  );
  worker.kill("SIGTERM");
  await worker.exited;
});

test("check says in what an intake differs from what is registered of it, who has its name, which of them nobody runs, and that a new one repeats what one did that is gone", async () => {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const declared = "select posthorn.declare_intake($1, $2, 'own', 'there', 604800000, 60000, $3)";
  await client.query(declared, ["orders-in", "takes", '[{"name":"OrderPaid","owner":"far"}]']);
  await client.query(declared, ["theirs", "another", "[]"]);
  await client.query(declared, ["left", "takes", '[{"name":"OrderHeard","owner":null}]']);
  await client.query(
    "select posthorn.register_contract('OrderHeard', 1, 'event', 'heard', false, null, 'takes', false)",
  );
  await client.query("select posthorn.register_contract('OrderKept', 1, 'event', 'kept', false, null, 'takes', true)");
  await client.end();
  const body = `
const broker = { kind: "own", where: "here", features: { receives: true }, style: {}, openSender() {}, openReceiver() {} };
const into = [event("OrderPaid", { topic: "paid", owner: "far", schema })];
post.intake("orders-in", { from: broker, into, inbox: { keepMs: 3_600_000 } });
post.intake("theirs", { from: broker, into });
post.intake("mine", { from: broker, into: [event("OrderKept", { topic: "kept", schema })] });
post.intake("renamed", { from: broker, into: [event("OrderHeard", { topic: "heard", schema })] });
post.queue("taking", policies.email).handle(command("DoTaking", { queue: "taking", schema }), () => undefined);`;
  const cwd = await project({ "posthorn.config.mjs": shop(database.url, body, "takes") });
  const { findings } = JSON.parse((await posthornCommand(["check", "--json"], { cwd })).out);
  const about = (name: string) => findings.filter((one: { about: string }) => one.about === name);
  const place = (where: string) => [{ broker: "own", where }, `taken in from own ${where}`] as const;
  const unrun = { rule: "unattended", message: expect.stringContaining("runs it once it is started") };
  const kept = "what comes again is recognised for";
  expect(about("orders-in")).toMatchObject([
    {
      level: "warning",
      rule: "policies",
      differences: [
        { decision: "from", ...between(place("there")[0], place("here")[0], place("there")[1], place("here")[1]) },
        { decision: "inbox.keepMs", ...between(604_800_000, 3_600_000, `${kept} 7 d`, `${kept} 1 h`) },
      ],
    },
    unrun,
  ]);
  expect(about("mine")).toMatchObject([
    { level: "error", rule: "owners", message: expect.stringContaining("OrderKept is published here") },
  ]);
  expect(about("theirs")).toMatchObject([
    { level: "error", message: expect.stringMatching(/service "another".+ renamed.+posthorn intakes remove theirs$/) },
    unrun,
  ]);
  expect(about("renamed")).toEqual([
    {
      level: "warning",
      rule: "intakes",
      about: "renamed",
      message: expect.stringMatching(
        /^is new, and brings in OrderHeard as the intake "left" did, .+ posthorn intakes rename left renamed: /,
      ),
    },
  ]);
  expect(about("left")).toEqual([
    {
      level: "warning",
      rule: "orphans",
      about: "left",
      message:
        'no process runs the intake "left", which brings in OrderHeard; if it was renamed: posthorn intakes rename left <new name>; if it is gone for good: posthorn intakes remove left',
    },
  ]);
  // Before, it was said that nobody has published it yet.
  expect(about("OrderHeard")).toEqual([]);
});

// It said that nobody reads the topic, of a relay that was there to read it, until the relay had been started once.
test("check counts what the configuration declares: a topic that it reads and has never been started on is no orphan", async () => {
  const own = await createDatabase();
  try {
    await posthornCommand(["migrate", "--database", own.url]);
    const client = new Client({ connectionString: own.url });
    await client.connect();
    for (const topic of ["relayed", "subscribed", "unread"])
      await client.query("select posthorn.register_channel('event', $1)", [topic]);
    await client.query(
      "select posthorn.register_contract('OrderHeard', 1, 'event', 'relayed', false, 'far', 'far', false)",
    );
    await client.end();
    const body = `
const features = { acknowledges: true, sends: true, receives: false, order: "key", mode: "binary" };
const to = { kind: "own", where: "here", features, style: {}, openSender() {}, openReceiver() {} };
post.relay("out", { ...policies.relay, from: { topic: "relayed" }, to });
post.subscription("audit", { topic: "subscribed", ...policies.email }).on(event("OrderPlaced", { topic: "subscribed", schema }), () => undefined);`;
    const cwd = await project({ "posthorn.config.mjs": shop(own.url, body) });
    const { out, err } = await posthornCommand(["check", "--json"], { cwd });
    expect(err).toBe("");
    expect(JSON.parse(out).findings).toEqual([
      { level: "warning", rule: "orphans", about: "unread", message: 'nobody reads the topic "unread"' },
    ]);
  } finally {
    await own.drop();
  }
});

// Nothing was wrong, by what it said, and nothing ever went out.
test("check names a relay whose topic no contract is known on, with the topic that was meant, and how one that is gone from the code is removed", async () => {
  const own = await createDatabase();
  try {
    await posthornCommand(["migrate", "--database", own.url]);
    const client = new Client({ connectionString: own.url });
    await client.connect();
    await client.query(
      "select posthorn.register_contract('ThingMade', 1, 'event', 'things', false, 'far', 'far', false)",
    );
    await client.query("select posthorn.register_subscription('gone', 'event', 'things', 'handler', $1, 'shop')", [
      JSON.stringify(policies.relay),
    ]);
    await client.end();
    const relay = `
const features = { acknowledges: true, sends: true, receives: true, order: "key", mode: "binary" };
const to = { kind: "own", where: "here", features, style: {}, openSender() {}, openReceiver() {} };
post.relay("out", { ...policies.relay, from: { topic: "thigns" }, to });`;
    const found = async (body: string) => {
      const cwd = await project({ "posthorn.config.mjs": shop(own.url, body) });
      const { out, err } = await posthornCommand(["check", "--json"], { cwd });
      expect(err).toBe("");
      return JSON.parse(out).findings;
    };
    const removed = {
      level: "warning",
      rule: "unattended",
      about: "gone",
      message: "no worker works on it now; if it is gone for good: posthorn subscriptions remove gone",
    };
    expect(await found(relay)).toEqual([
      removed,
      {
        level: "warning",
        rule: "orphans",
        about: "out",
        message:
          'no contract is known on the topic "thigns": nothing was ever said there. Did you mean "things"? Known are: things.',
      },
    ]);
    const intake = `${relay}
post.intake("in", { from: to, into: [event("ThignMade", { topic: "thigns", owner: "far", schema })] });`;
    expect(await found(intake)).toEqual([removed]);
  } finally {
    await own.drop();
  }
});

test("check names what nobody handles while workers run, and what a start would refuse until the queue is drained", async () => {
  const own = await createDatabase();
  try {
    await posthornCommand(["migrate", "--database", own.url]);
    const runs =
      'post.queue("email", policies.email).handle(command("SendEmail", { queue: "email", schema, version: 2 }), () => undefined);';
    const worker = await spawnFixture("src/cli/main.ts", {
      args: ["start"],
      cwd: await project({ "posthorn.config.mjs": shop(own.url, runs) }),
    });
    await worker.line(/works on/);
    const client = new Client({ connectionString: own.url });
    await client.connect();
    for (const [name, version] of [
      ["SendEmail", 1],
      ["ForgetEmail", 1],
    ] as const) {
      await client.query("select posthorn.register_contract($1, $2, 'command', 'email', false, null, 'old', false)", [
        name,
        version,
      ]);
    }
    await client.query("select posthorn.register_channel('event', 'unread')");
    await client.end();
    const changed = runs.replace("policies.email", '{ ...policies.email, idempotency: "transaction" }');
    const cwd = await project({ "posthorn.config.mjs": shop(own.url, changed) });
    const { findings } = JSON.parse((await posthornCommand(["check", "--json"], { cwd })).out);
    expect(findings).toEqual([
      {
        level: "warning",
        rule: "policies",
        about: "email",
        message: expect.stringContaining(
          "A start that changes idempotency is refused while messages have not ended: run posthorn drain email",
        ),
        differences: [
          {
            decision: "idempotency",
            ...between(
              "handler",
              "transaction",
              "may repeat after a crash",
              "takes effect exactly once, in this database",
            ),
          },
        ],
      },
      ...[
        ["ForgetEmail", 'workers of "email" run, and none has a handler for ForgetEmail'],
        ["unread", 'nobody reads the topic "unread"'],
        ["SendEmail version 1", "no running worker knows version 1 of SendEmail any more"],
      ].map(([about, message]) => ({ level: "warning", rule: "orphans", about, message })),
    ]);
    worker.kill("SIGTERM");
    await worker.exited;
  } finally {
    await own.drop();
  }
});

test("check says with 1 that the database is away, and that the code alone can be checked", async () => {
  const cwd = await project({ "posthorn.config.mjs": shop("postgres://nobody@127.0.0.1:1/nothing", full) });
  const ended = await posthornCommand(["check"], { cwd });
  expect(ended.code).toBe(1);
  expect(ended.out).toMatch(/^error +database +PH_DATABASE_AWAY .+With --offline the code alone is checked\.$/m);
});
