import type { PGlite } from "@electric-sql/pglite";
import { command, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { probes } from "posthorn/http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

const Render = command("RenderPage", { queue: "rendering", schema: type<object>() });
const policy = {
  ...policies.notify,
  concurrency: 5,
  alerts: { oldestAgeMs: 60_000, backlog: 10, deadLetters: 1, noWorkerMs: 60_000 },
};

let place: TestDatabase;
let post: Post<Sql>;
let release: () => void = () => undefined;
const gate = new Promise<void>((resolve) => {
  release = resolve;
});

beforeAll(async () => {
  place = await createDatabase();
  post = posthorn({ service: "pages", database: place.url, migrate: "auto", logger: silentLogger });
  post.queue("rendering", policy).handle(Render, () => gate);
});
afterAll(async () => {
  release();
  await post.stop();
  await place.drop();
});

async function get(
  path: string,
  one = post,
  method = "GET",
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await probes(one)(new Request(`http://probe.example${path}`, { method }));
  expect(response.headers.get("content-type")).toBe("application/json; charset=utf-8");
  return { status: response.status, body: JSON.parse(await response.text()) };
}

test("health, readiness and the wanted workers follow an instance from its start to its end", async () => {
  expect(await get("/health")).toEqual({ status: 200, body: { status: "ok", service: "pages" } });
  expect(await get("/below/a/prefix/ready")).toEqual({
    status: 200,
    body: { status: "ready", service: "pages", working: false },
  });
  await post.start();
  expect(await get("/ready")).toMatchObject({ status: 200, body: { working: true } });
  expect(await get("/scaling?name=rendering")).toMatchObject({
    status: 200,
    body: { backlog: 0, workersWanted: 0, workers: 1, concurrency: 5 },
  });
  await post.sendMany(
    Render,
    Array.from({ length: 23 }, () => ({})),
  );
  await expect.poll(async () => (await get("/scaling?name=rendering")).body.running).toBe(5);
  const { body } = await get("/scaling?name=rendering");
  // 23 were said; what the worker claimed runs and the rest waits.
  expect(body).toMatchObject({
    name: "rendering",
    kind: "command",
    backlog: 18,
    running: 5,
    alerts: [{ alert: "backlog" }],
  });
  expect(body.workersWanted).toBeGreaterThan(0);
  expect(body.workersWanted).toBeLessThanOrEqual(Math.ceil(23 / 5));
  const all = await get("/scaling");
  expect(all.body).toMatchObject({ workersWanted: body.workersWanted, lines: [{ name: "rendering" }] });
  expect(await get("/scaling?name=other")).toMatchObject({ status: 404 });
  expect(await get("/nothing")).toMatchObject({ status: 404 });
  expect(await get("/ready", post, "POST")).toMatchObject({ status: 405 });
});

test("a process that cannot work says so, with code, and goes on answering that it is alive", async () => {
  const away = posthorn({
    service: "away",
    database: "postgres://nobody:secret@127.0.0.1:1/nothing",
    logger: silentLogger,
  });
  const { status, body } = await get("/ready", away);
  expect({ status, body }).toMatchObject({
    status: 503,
    body: { status: "not ready", error: { code: "PH_DATABASE_AWAY", retryable: true } },
  });
  expect(JSON.stringify(body)).not.toContain("secret");
  expect((await get("/scaling", away)).status).toBe(503);
  expect((await get("/health", away)).status).toBe(200);
  await away.stop();
  expect(await get("/ready", away)).toMatchObject({ status: 503, body: { error: { code: "PH_STOPPED" } } });
});

describe("workers wanted", () => {
  // Goal: the formula of the guide. Method: its figures are planted in the tables of an embedded database.
  let pglite: PGlite;
  let planted: Post<Sql>;
  beforeAll(async () => {
    pglite = await createPglite();
    planted = posthorn({ service: "planted", database: pglite, logger: silentLogger });
    planted.queue("rendering", policy).handle(Render, async () => undefined);
    await planted.start();
    await planted.untilIdle();
    await planted.stop();
  });
  afterAll(() => pglite.close());

  /** `claimed` messages were claimed in the last minute, `running` of them are still open; `waiting` wait. */
  const wanted = async (claimed: number, running: number, waiting: number, fleet?: number): Promise<unknown> => {
    await pglite.exec(
      "delete from posthorn.claim_1; delete from posthorn.settlement_1; delete from posthorn.message_1; delete from posthorn.worker",
    );
    const { rows } = await pglite.query<{ id: number; channel: number }>(
      "select id, channel from posthorn.subscription where name = 'rendering'",
    );
    const [of] = rows;
    await pglite.query("update posthorn.subscription set policy = (policy::jsonb || $1::jsonb)::json", [
      JSON.stringify({ fleetConcurrency: fleet ?? null }),
    ]);
    await pglite.query(`insert into posthorn.worker (id, service, host, pid, timeout_ms, backends, oldest_open_claim)
      overriding system value values (1, 'x', 'x', 1, 600000, '[]', 0)`);
    const claim = async (id: number, messages: number, open: boolean) => {
      if (messages === 0) return;
      await pglite.query(
        `insert into posthorn.claim_1 (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, messages)
          select $1::int, $1::int + 1000, 1, 1, t.id, t.id, 0, clock_timestamp(), $2::int, 0, false, false, array(select generate_series(1, $3::int))
          from (select max(id) as id from posthorn.tick_1) t`,
        [id, of?.id, messages],
      );
      if (!open)
        await pglite.query(
          `insert into posthorn.settlement_1 (claim, part, outcome, closes, at) values ($1, 1, 'succeeded', true, clock_timestamp())`,
          [id],
        );
    };
    await claim(1, claimed - running, false);
    await claim(2, running, true);
    await pglite.query(
      `insert into posthorn.message_1 (xid, id, nonce, published_at, channel, lane, contract, payload)
        select pg_current_xact_id(), i, 1, clock_timestamp(), $1, 0, (select id from posthorn.contract limit 1), '{}' from generate_series(1, $2::int) i`,
      [of?.channel, waiting],
    );
    const json = (await pglite.query<{ s: string }>("select posthorn.scaling()::text as s")).rows[0]?.s ?? "[]";
    return JSON.parse(json)[0];
  };

  test.each([
    // claimed in the last minute, running, waiting, wanted
    ["nothing waits or runs", 0, 0, 0, undefined, 0],
    ["no rate is known: each waiting message counts as a run of its own", 0, 0, 12, undefined, 3],
    ["little waits", 0, 0, 1, undefined, 1],
    // 10 a second with 20 running: a run takes 2 s; of 300 waiting, 300 * 2 / 30 = 20 are to run at once.
    ["a backlog is to be gone in half of oldestAgeMs", 600, 20, 300, undefined, 8],
    ["nothing waits: what runs is what is needed", 600, 20, 0, undefined, 4],
    ["no more than the fleet may run at once", 600, 20, 300, 10, 2],
  ])("%s", async (_, claimed, running, waiting, fleet, workersWanted) => {
    expect(await wanted(claimed, running, waiting, fleet)).toMatchObject({ backlog: waiting, running, workersWanted });
  });
});
