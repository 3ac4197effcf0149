import { test } from "vitest";
import { readFileSync } from "node:fs";
import { Client } from "pg";
import { randomBytes } from "node:crypto";
import { createDatabase } from "../support/server.js";
test("sql", async () => {
  const database = await createDatabase();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const pid = (await client.query("select pg_backend_pid() as pid")).rows[0].pid;
  const cpu = (p: number | string = pid) => { const f = readFileSync(`/proc/${p}/stat`, "utf8").split(") ")[1]!.split(" "); return (Number(f[11]) + Number(f[12])) * 10; };
  const payload = JSON.stringify({ orderId: "o-1", cents: 3, note: "x".repeat(260) });
  const list = `[${Array(1000).fill(payload).join(",")}]`;
  await client.query("create table i (id bigint generated always as identity primary key, payload json)");
  await client.query("create table a (intake int, mark uuid, at timestamptz, primary key (intake, mark)); create index on a (intake, at)");
  await client.query("create table b (intake int, mark uuid, at timestamptz, primary key (intake, mark))");
  await client.query("create table c (mark uuid primary key, intake int, at timestamptz)");
  await client.query("create table d (mark uuid primary key, intake int, at timestamptz); create index on d (at)");
  await client.query("create table e (mark uuid, intake int, at timestamptz)");
  const marks = () => `{${Array.from({ length: 1000 }, () => randomBytes(16).toString("hex")).join(",")}}`;
  const ins = (t: string, tail = "on conflict do nothing") => () => client.query(`with f as (insert into ${t} (intake, mark, at) select 99, m, now() from unnest($1::text::uuid[]) m ${tail} returning mark) select count(*), array_agg(mark) from f`, [marks()]);
  const variants: Record<string, () => Promise<unknown>> = {
    I: () => client.query("insert into i (payload) select p from json_array_elements($1::json) p", [list]),
    a: ins("a"), b: ins("b"), c: ins("c"), d: ins("d"), "d plain": ins("d", ""), "d sorted": ins("d", "order by m on conflict do nothing"), "e noindex": ins("e", ""),
    parse: () => client.query("select count(m) from unnest($1::text::uuid[]) m", [marks()]),
  };
  const total: Record<string, number> = {};
  for (let round = 0; round < 8; round += 1) for (const [name, f] of Object.entries(variants)) {
    const a = cpu();
    for (let i = 0; i < 12; i += 1) await f();
    total[name] = (total[name] ?? 0) + cpu() - a;
  }
  for (const [n, t] of Object.entries(total)) console.log(n, (t / 96).toFixed(2));
  await client.end();
  await database.drop();
}, 200_000);
