/**
 * Databases for tests on a real PostgreSQL server.
 *
 * One server per test run, started when the first test asks; a fresh database per test file, with the schema unless a test asks for
 * an empty one. A test that kills or restarts a server takes one of its own with `startServer`.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { Client } from "pg";
import { firstEpoch } from "../../src/store/migrate.js";
import { shared } from "./shared.js";
import { migratedName } from "./templates.js";

export { type OwnServer, type ServerOptions, startServer } from "./own-server.js";

export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  /** Waits a moment for sessions that are ending, then ends those that are still in it. */
  drop(): Promise<void>;
}

export interface DatabaseOptions {
  /** Without the schema. Always so on another server, with a template, and with another encoding. */
  readonly empty?: boolean;
  readonly encoding?: "UTF8" | "SQL_ASCII" | "LATIN1";
  /** The name of a database to copy; nobody may be connected to it. */
  readonly template?: string;
  /** The server to make it on. Default: the one of the test run. */
  readonly on?: { url(database?: string): string };
}

const goodbyeMs = 1_000;

/** Half the work of copying by way of the log. PostgreSQL 14 copies files anyway and does not know the word. */
const copiesFiles = process.env.POSTHORN_TEST_POSTGRES !== "14";

/** The URL of the database `postgres`, as superuser, on the server of the test run. */
export async function adminUrl(): Promise<string> {
  return shared("server");
}

export async function createDatabase(options: DatabaseOptions = {}): Promise<TestDatabase> {
  const admin = options.on?.url() ?? (await adminUrl());
  const name = `test_${process.pid}_${randomBytes(6).toString("hex")}`;
  const { encoding, template, on, empty = false } = options;
  const migrated = !empty && encoding === undefined && template === undefined && on === undefined;
  const source = template ?? (migrated ? migratedName : "template0");
  const like = encoding === undefined && source !== "template0";
  const how = [
    like ? "" : `encoding '${encoding ?? "UTF8"}'`,
    copiesFiles && on === undefined ? "strategy file_copy" : "",
  ];
  await asAdmin(admin, `create database ${name} template ${quoted(source)} ${how.join(" ")}`);
  const url = new URL(admin);
  url.pathname = `/${name}`;
  // The template may be as old as the test run.
  if (migrated) await asAdmin(url.href, `${firstEpoch}; update posthorn.segment set opened_at = clock_timestamp()`);
  return { name, url: url.href, drop: () => dropDatabase(admin, name) };
}

/** A client that has just said goodbye is still listed for a moment; to end it by force would look like an error to it. */
async function dropDatabase(admin: string, name: string): Promise<void> {
  const client = await connected(admin);
  try {
    const deadline = performance.now() + goodbyeMs;
    const others = "select 1 from pg_stat_activity where datname = $1 limit 1";
    while ((await client.query(others, [name])).rows.length > 0 && performance.now() < deadline) await wait(10);
    await client.query(`drop database if exists ${name} with (force)`);
  } finally {
    await client.end();
  }
}

async function asAdmin(url: string, statement: string): Promise<void> {
  const client = await connected(url);
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function connected(connectionString: string): Promise<Client> {
  const client = new Client({ connectionString });
  await client.connect();
  return client;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
