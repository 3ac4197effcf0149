import { Client } from "pg";
import { expect, test } from "vitest";
import { type ServerCpu, serverCpu } from "../../bench/server-cpu.js";
import { eventually } from "../support/eventually.js";
import { adminUrl, startServer } from "../support/server.js";

function secondsOf(cpu: ServerCpu): () => number {
  if ("reason" in cpu) throw new Error(cpu.reason);
  return cpu.seconds;
}

test.runIf(process.platform === "linux")(
  "what a session has used counts while it is there, and after it has ended",
  async () => {
    // Goal: nothing gets lost when a process of the server ends. Method: a server of its own, so that nobody else adds to the count.
    const server = await startServer();
    const seconds = secondsOf(await serverCpu(server.url()));
    const client = new Client({ connectionString: server.url() });
    await client.connect();
    const before = seconds();
    while (seconds() < before + 0.2) await client.query("select count(*) from generate_series(1, 100000)");
    const during = seconds();
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    await client.end();
    const eye = new Client({ connectionString: server.url() });
    await eye.connect();
    const there = "select from pg_stat_activity where pid = $1";
    await eventually(async () => (await eye.query(there, [rows[0]?.pid])).rowCount === 0);
    await eye.end();
    expect(seconds()).toBeGreaterThanOrEqual(during);
    await server.remove();
  },
);

test.runIf(process.platform === "linux")("the processes of the server of the tests are seen from here", async () => {
  expect(await serverCpu(await adminUrl())).toHaveProperty("seconds");
});
