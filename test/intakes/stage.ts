/** A database for each test file, instances that end with their test, and what lies in the log. */

import { Client } from "pg";
import { command, event, type Post, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import type { Logger } from "../../src/core/logger.js";
import { type Ended, posthornCommand } from "../cli/command.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

export interface Order {
  readonly orderId: string;
  readonly cents: number;
}

/** A schema with a check of its own, so that no library is needed. */
export const orderSchema = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value: unknown) => {
      const order = value as Partial<Order> | null;
      const fits = typeof order === "object" && order !== null && typeof order.orderId === "string";
      if (!fits) return { issues: [{ message: "expected a text", path: ["orderId"] }] };
      return typeof order.cents === "number"
        ? { value: order as Order }
        : { issues: [{ message: "expected a number", path: ["cents"] }] };
    },
  },
} as const;

export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: orderSchema,
  key: (order: Order) => order.orderId,
});
export const ShipOrder = command("ShipOrder", { queue: "shipping", schema: type<Order>() });

let database: TestDatabase;
let eye: Client;

export const url = (): string => database.url;
export const rows = async <Row = Record<string, unknown>>(sql: string, values: readonly unknown[] = []) =>
  (await eye.query(sql, [...values])).rows as Row[];

/** A session that ends with the test. */
export async function session(): Promise<Client> {
  const client = new Client({ connectionString: url() });
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

export const asExecutor = (client: Client) => ({
  query: async (text: string, params?: readonly unknown[]) => (await client.query(text, [...(params ?? [])])) as never,
});

/** Once for each file. */
export function onServer(): void {
  beforeAll(async () => {
    database = await createDatabase();
    const post = posthorn({ service: "migrator", database: database.url, migrate: "auto" });
    await post.migrate();
    await post.stop();
    eye = new Client({ connectionString: database.url });
    await eye.connect();
  });
  afterAll(async () => {
    await eye.end();
    await database.drop();
  });
}

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
export function instance(service = "shipping", logger = listening().logger, database = url()): Post<Sql> {
  const post = posthorn({ service, database, logger });
  onTestFinished(() => post.stop({ graceMs: 0 }));
  return post;
}

let names = 0;
export function fresh(name: string): string {
  names += 1;
  return `${name}-${names}`;
}

export interface Stored {
  readonly name: string;
  readonly version: number;
  readonly key: string | null;
  readonly payload: unknown;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>> | null;
}

/** What lies in the log of these contracts, in its order. */
export function stored(...contracts: readonly string[]): Promise<Stored[]> {
  return rows<Stored>(
    `select c.name, c.version, m.key, m.payload, m.payload::text as text, m.headers from posthorn.message_1 m
     join posthorn.contract c on c.id = m.contract where c.name = any ($1) order by m.id`,
    [contracts],
  );
}

export interface IntakeRow {
  readonly id: number;
  readonly worker: string | null;
  readonly received: string;
  readonly written: string;
  readonly invalid: string;
  readonly skipped: string;
  readonly away_since: Date | null;
  readonly trouble: string | null;
}

export async function intakeRow(name: string): Promise<IntakeRow> {
  const [row] = await rows<IntakeRow>("select * from posthorn.intake where name = $1", [name]);
  if (row === undefined) throw new Error(`no intake ${name}`);
  return row;
}

export interface UnfitRow {
  readonly id: string;
  readonly reason: string;
  readonly source: string | null;
  readonly event: string | null;
  readonly type: string | null;
  readonly body: Buffer;
  readonly bytes: string;
  readonly whole: boolean;
  readonly times: number;
  readonly headers: Readonly<Record<string, string>>;
}

export function unfit(name: string): Promise<UnfitRow[]> {
  return rows<UnfitRow>(
    "select v.* from posthorn.intake_invalid v join posthorn.intake i on i.id = v.intake where i.name = $1 order by v.id",
    [name],
  );
}

/** The command line as an operator runs it here. */
export function cli(...args: readonly string[]): Promise<Ended> {
  return posthornCommand([...args, "--database", url()]);
}

export async function json(...args: readonly string[]) {
  return JSON.parse((await cli(...args, "--json")).out);
}
