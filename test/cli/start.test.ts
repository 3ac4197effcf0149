import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isAlive } from "../support/alive.js";
import { eventually } from "../support/eventually.js";
import { freePort } from "../support/free-port.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { mainFile, posthornCommand, project } from "./command.js";

let place: TestDatabase;
let folder: string;
beforeAll(async () => {
  place = await createDatabase({ empty: true });
  folder = await project({
    "posthorn.config.js": `import { command, policies, posthorn, type } from "posthorn";
export const SendEmail = command("SendEmail", { queue: "email", schema: type() });
export const post = posthorn({ service: "shop", database: ${JSON.stringify(place.url)}, migrate: "auto" });
post.queue("email", policies.email).handle(SendEmail, () => undefined);
`,
  });
  await mkdir(join(folder, "node_modules/.bin"), { recursive: true });
  const bin = join(folder, "node_modules/.bin/posthorn");
  await writeFile(
    bin,
    `#!/bin/sh\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(await mainFile())} "$@"\n`,
  );
  await chmod(bin, 0o755);
});
afterAll(() => place.drop());

/** A program with the lines that it prints. */
function run(program: string, args: readonly string[]) {
  const child = spawn(program, [...args], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const event = async (name: string) => {
    const found = await eventually(async () => lines.find((line) => line.includes(`"event":"${name}"`)));
    return JSON.parse(found ?? "{}");
  };
  return { child, event, lines };
}

test("start --port answers probes and autoscalers until it stops", async () => {
  const port = await freePort();
  const { child, event } = run(process.execPath, [
    await mainFile(),
    "start",
    "--json",
    "--port",
    String(port),
    "--host",
    "127.0.0.1",
  ]);
  expect(await event("started")).toMatchObject({ service: "shop", port });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, body: await response.json() };
  };
  expect(await get("/health")).toEqual({ status: 200, body: { status: "ok", service: "shop" } });
  expect(await get("/ready")).toEqual({ status: 200, body: { status: "ready", service: "shop", working: true } });
  expect(await get("/scaling?name=email")).toMatchObject({ status: 200, body: { workersWanted: 0, workers: 1 } });
  child.kill("SIGTERM");
  const [code] = await once(child, "exit");
  expect(code).toBe(0);
});

test("a worker under npx, which ends at SIGTERM and hands nothing on, stops when npx is gone", async () => {
  const { child, event } = run("npx", ["--no-install", "posthorn", "start", "--json"]);
  const { pid } = await event("started");
  expect(isAlive(pid)).toBe(true);
  child.kill("SIGKILL");
  await eventually(async () => !isAlive(pid), { withinMs: 60_000 });
  // Gracefully: it has said goodbye.
  const client = new Client({ connectionString: place.url });
  await client.connect();
  expect((await client.query("select id from posthorn.worker")).rows).toEqual([]);
  await client.end();
});

test("what start cannot do is refused by name", async () => {
  const host = await posthornCommand(["start", "--host", "127.0.0.1"], { cwd: folder });
  expect(host).toMatchObject({ code: 2 });
  expect(host.err).toContain("Pass --port <port>");
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const address = taken.address();
  const port = typeof address === "object" ? address?.port : 0;
  const refused = await posthornCommand(["start", "--port", String(port), "--host", "127.0.0.1"], { cwd: folder });
  expect(refused).toMatchObject({ code: 2 });
  expect(refused.err).toContain("another program listens there");
  taken.close();
});

test("migrate prints the roles or makes them, and refuses what contradicts itself", async () => {
  const looks = ["--database", place.url];
  const printed = await posthornCommand(["migrate", "--print-roles", ...looks, "--schema", "acme"]);
  expect(printed.code).toBe(0);
  expect(printed.out).toContain("grant usage on schema acme to acme_producer, acme_worker, acme_observer;");
  expect(printed.out).toMatch(/^begin;[\s\S]*commit;\n$/);
  const schema = `roles_${process.pid}`;
  const made = await posthornCommand(["migrate", "--with-roles", ...looks, "--schema", schema]);
  expect(made).toMatchObject({ code: 0 });
  const client = new Client({ connectionString: place.url });
  await client.connect();
  const found = await client.query(`select count(*)::int as count from pg_roles where rolname like '${schema}\\_%'`);
  expect(found.rows).toEqual([{ count: 3 }]);
  const names = ["producer", "worker", "observer"].map((role) => `${schema}_${role}`).join(", ");
  await client.query(`drop owned by ${names}; drop role ${names}`);
  await client.end();
  const both = await posthornCommand(["migrate", "--with-roles", "--dry-run", ...looks]);
  expect(both).toMatchObject({ code: 2 });
  const embedded = await posthornCommand(["migrate", "--with-roles", "--database", "embedded:here"], { cwd: folder });
  expect(embedded).toMatchObject({ code: 2 });
  expect(embedded.err).toContain("for a PostgreSQL server");
});
