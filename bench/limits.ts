/** What the same client, server, settings and run can do at most. */
import pg from "pg";
import { type Probe, rate } from "./measure.js";
import { json } from "./payload.js";

/** I: one connection, 1,000 rows of about 200 bytes per statement, as one JSON list through json_array_elements. */
export async function insertLimit(url: string, roundMs: number): Promise<Probe> {
  const client = new pg.Client(url);
  await client.connect();
  await client.query("create table if not exists bench_insert (id bigserial primary key, p json)");
  const list = `[${Array.from({ length: 1_000 }, () => json).join(",")}]`;
  return {
    round: () =>
      rate(roundMs, async () => {
        await client.query("insert into bench_insert (p) select * from json_array_elements($1::json)", [list]);
        return 1_000;
      }),
    close: () => client.end(),
  };
}

/** T: 8 connections, each BEGIN, insert a business row, insert 200 bytes of json, COMMIT: four round trips. */
export async function transactionLimit(url: string, roundMs: number): Promise<Probe> {
  const clients = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const client = new pg.Client(url);
      await client.connect();
      return client;
    }),
  );
  await clients[0]?.query(
    "create table if not exists bench_business (id bigserial primary key, v text); create table if not exists bench_message (id bigserial primary key, p json)",
  );
  return {
    round: async () => {
      const rates = await Promise.all(
        clients.map((client) =>
          rate(roundMs, async () => {
            await client.query("begin");
            await client.query("insert into bench_business (v) values ($1)", ["x"]);
            await client.query("insert into bench_message (p) values ($1)", [json]);
            await client.query("commit");
            return 1;
          }),
        ),
      );
      return rates.reduce((sum, one) => sum + one, 0);
    },
    close: async () => {
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}
