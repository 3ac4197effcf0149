/** What the same client, server, settings and run can do at most. The limit of the latencies is in programs/notify-*.ts. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { type Probe, rate, rateOfMany } from "./measure.js";
import { json, listJson, payloads } from "./payload.js";

/** Transactions at once in T, and in the rows that are measured against it. */
export const connections = 8;

const insertTable = "create table if not exists bench_insert (id bigserial primary key, p json)";
const insertRows = "insert into bench_insert (p) select * from json_array_elements($1::json)";

/** I: one connection, 1,000 rows of 200 bytes per statement, as one JSON list through json_array_elements. */
export async function insertLimit(url: string): Promise<Probe> {
  const client = new pg.Client(url);
  await client.connect();
  await client.query(insertTable);
  return {
    round: (ms) =>
      rate(ms, async () => {
        await client.query(insertRows, [listJson]);
        return payloads.length;
      }),
    close: () => client.end(),
  };
}

/** P: I on PGlite on disk, opened as the embedded database opens it. */
export async function pgliteLimit(): Promise<Probe> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-bench-pglite-"));
  const database = await PGlite.create(folder, { relaxedDurability: false });
  await database.exec(insertTable);
  return {
    round: (ms) =>
      rate(ms, async () => {
        await database.query(insertRows, [listJson]);
        return payloads.length;
      }),
    close: async () => {
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The business row of T and of the rows that are measured against it. */
export const businessTable = "create table if not exists bench_business (id bigserial primary key, v text)";
export const businessRow = ["insert into bench_business (v) values ($1)", ["x"]] as const;

/** T: one process, 8 connections, each BEGIN, insert a business row, insert 200 bytes of json, COMMIT: four round trips. */
export async function transactionLimit(url: string): Promise<Probe> {
  const clients = await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = new pg.Client(url);
      await client.connect();
      return client;
    }),
  );
  await clients[0]?.query(
    `${businessTable}; create table if not exists bench_message (id bigserial primary key, p json)`,
  );
  const transactions = clients.map((client) => async () => {
    await client.query("begin");
    await client.query(businessRow[0], [...businessRow[1]]);
    await client.query("insert into bench_message (p) values ($1)", [json]);
    await client.query("commit");
    return 1;
  });
  return {
    round: (ms) => rateOfMany(ms, transactions),
    close: async () => {
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}
