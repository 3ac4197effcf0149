/** A database, instances that end with their test, and schedulers whose passes the test calls itself. */
import { Client } from "pg";
import { command, type Policy, type Post, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import { describe } from "../../src/contracts/contract.js";
import type { Executor } from "../../src/core/database.js";
import type { Logger } from "../../src/core/logger.js";
import { ScheduleDeclaration } from "../../src/schedules/schedule.js";
import { Scheduler } from "../../src/schedules/scheduler.js";
import { registerContract } from "../../src/store/registry.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

export const SendReport = command("SendReport", { queue: "reports", schema: type<{ for: string }>() });
export const SendKeyed = command("SendKeyed", {
  queue: "keyed",
  schema: type<{ for: string }>(),
  key: (report) => report.for,
});

export const decisions: Policy<"handler"> = {
  retry: retry.none,
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 86_400_000 },
  alerts: { oldestAgeMs: 600_000, backlog: 1_000_000, deadLetters: 1_000, noWorkerMs: 600_000 },
};

/** Far away: nothing comes of it while a test runs. */
export const yearly = { cron: "0 0 1 1 *", timeZone: "UTC", missed: "all" } as const;

let database: TestDatabase;
const clients: Client[] = [];
let names = 0;

export const url = (): string => database.url;
export function fresh(name: string): string {
  names += 1;
  return `${name}-${names}`;
}

/** A connection as the store uses it. */
export async function connection(): Promise<Executor> {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  clients.push(client);
  return { query: async (text, params) => (await client.query(text, [...(params ?? [])])) as never };
}

let eye: Executor;
export const rows = async <Row = Record<string, unknown>>(sql: string, values: readonly unknown[] = []) =>
  (await eye.query<Row>(sql, values)).rows;

beforeAll(async () => {
  database = await createDatabase();
  const post = posthorn({ service: "migrator", database: database.url, migrate: "auto" });
  await post.migrate();
  await post.stop();
  eye = await connection();
});
afterAll(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()));
  await database.drop();
});

export interface Told {
  readonly level: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

export function listening(): { readonly logger: Logger; readonly told: Told[] } {
  const told: Told[] = [];
  const tell = (level: string) => (message: string, facts: object) =>
    void told.push({ level, message, facts: { ...facts } });
  return { told, logger: { info: tell("info"), warn: tell("warn"), error: tell("error") } as Logger };
}

/** An instance that ends with the test. */
export function instance(service = "shop", logger = listening().logger): Post<Sql> {
  const post = posthorn({ service, database: database.url, logger });
  onTestFinished(() => post.stop({ graceMs: 0 }));
  return post;
}

/** What one process does about schedules, a pass at a time. Only schedules of these names take part. */
export async function scheduler(
  declared: readonly (readonly [name: string, options: unknown])[],
  { service = "shop", logger = listening().logger }: { service?: string; logger?: Logger } = {},
): Promise<Scheduler> {
  const executor = await connection();
  const made = new Scheduler({
    declared: declared.map(([name, options]) => new ScheduleDeclaration(name, options)),
    service,
    executor,
    catalog: {
      ids: async (contracts: Iterable<Parameters<typeof describe>[0]>) => {
        const ids = new Map();
        for (const one of contracts) ids.set(one, await registerContract(executor, describe(one), service, false));
        return { ids, remember: () => undefined };
      },
    },
    waker: { wake: () => undefined },
    logger,
  });
  await made.declare();
  return made;
}

export interface Sent {
  readonly id: string;
  readonly for: string;
  readonly key: string | null;
  readonly payload: { readonly for?: string };
  readonly headers: Readonly<Record<string, string>>;
}

/** What a schedule has sent, in the order of the log. */
export async function sentBy(name: string): Promise<readonly Sent[]> {
  return rows<Sent>(
    `select posthorn.public_id(id, nonce) as id, headers ->> 'posthorn-scheduled-for' as for, key, payload, headers
     from posthorn.message_1 m where headers ->> 'posthorn-schedule' = $1 order by m.id`,
    [name],
  );
}

/** Plants what a downtime leaves: the next time of a schedule lies in the past. */
export async function overdue(name: string, next: string | Date, due: string | Date = next): Promise<void> {
  await rows("update posthorn.schedule set next_at = $2, due_at = $3 where name = $1", [name, next, due]);
}
