/**
 * A database, instances on it that end with their test, and the question why. What is declared has a name of its own in each test.
 */
import { Client } from "pg";
import { type Command, command, type Policy, type Post, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, onTestFinished } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { posthornCommand } from "./command.js";

export let database: TestDatabase;
let eye: Client;
let names = 0;
/** Digits that nothing else in the database has in its name. */
export const digits = (): number => {
  names += 1;
  return names;
};
const open: Post<Sql>[] = [];

beforeAll(async () => {
  database = await createDatabase();
  eye = new Client({ connectionString: database.url });
  await eye.connect();
});
afterAll(async () => {
  await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
  await eye.end();
  await database.drop();
});

export const decisions: Policy<"handler"> = {
  retry: retry.fixed({ attempts: 2, delayMs: 3_600_000 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 600_000,
  deadLetter: { keepMs: 86_400_000 },
  alerts: { oldestAgeMs: 600_000, backlog: 1_000, deadLetters: 100, noWorkerMs: 600_000 },
};

/** A service of its own, which ends with the test; or another worker of a service, under another spelling of the database. */
export function instance(service = fresh("service")): Post<Sql> {
  const url = new URL(database.url);
  url.searchParams.set("application_name", fresh("instance"));
  const post = posthorn({ service, database: url.href, migrate: "auto", logger: silentLogger });
  open.push(post);
  onTestFinished(() => post.stop({ graceMs: 0 }));
  return post;
}

/** A queue name of its own. */
export function fresh(name: string): string {
  names += 1;
  return `${name}-${names}`;
}
export const work = (queue: string, version = 1) =>
  command(`Work${queue.replace(/\D/g, "")}`, { queue, version, schema: type<{ n: number }>() });

export async function why(id: string): Promise<string> {
  const { code, out, err } = await posthornCommand(["why", id, "--database", database.url]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out.trimEnd();
}

export const rows = async <Row>(sql: string, values: readonly unknown[] = []): Promise<Row[]> =>
  (await eye.query(sql, [...values])).rows as Row[];
/** Of the only message of a contract: publishing returns nothing. */
export async function idOf(contract: string): Promise<string> {
  const [row] = await rows<{ id: string }>(
    "select posthorn.public_id(m.id, m.nonce) as id from posthorn.message_1 m join posthorn.contract c on c.id = m.contract where c.name = $1",
    [contract],
  );
  return row?.id ?? "";
}
export const messageOf = (id: string): string => id.split("-")[0] ?? "";
export const at = String.raw`at (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d`;
export const since = at.replace("at ", "");

/** Waits until the message is in a state. */
export async function becomes(post: Post<Sql>, id: string, state: string): Promise<void> {
  await eventually(async () => (await post.statusOf(id)).every((one) => one.state === state));
}

/** An instance that works on the queue of a contract. */
export async function working(
  contract: Command<string, string, { n: number }, { n: number }>,
  handler: () => unknown,
  policy: Partial<Policy<"handler">> = {},
  service = fresh("service"),
): Promise<Post<Sql>> {
  const post = instance(service);
  post.queue(contract.channel, { ...decisions, ...policy }).handle(contract, async () => {
    await handler();
  });
  await post.start();
  return post;
}

export const forever = (): Promise<void> => new Promise(() => undefined);
