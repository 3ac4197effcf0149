import { afterAll, beforeAll, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { beginErase, beginReplay, type Operation, proceed } from "../../src/store/operations.js";
import { type Place, publicId, writeMessages } from "../../src/store/publish.js";
import { messageStatus } from "../../src/store/status.js";
import { settle, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  giveUp,
  type Idempotency,
  makeQueue,
  makeTopic,
  makeWorker,
  openEngine,
  outgoing,
  part,
  type Reader,
  rescueAll,
  retryNow,
} from "./engine.js";

let engine: Engine;
let names = 0;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
const ann = { by: "ann", reason: "asked for by letter" };
/** Nothing else in the database holds these words. */
const secret = "Xanthippe-of-Alopece";
const fresh = (name: string): string => {
  names += 1;
  return `${name}${names}`;
};

/** Every place in the schema where a text can be read, in any table. */
async function readable(text: string): Promise<readonly string[]> {
  const tables = await engine.admin.rows(
    "select tablename as name from pg_tables where schemaname = 'posthorn' order by 1",
  );
  const found: string[] = [];
  for (const { name } of tables) {
    const rows = await engine.admin.value(
      `select count(*)::int from posthorn.${String(name)} t where t::text like '%' || $1 || '%'`,
      [text],
    );
    if (rows !== 0) found.push(`${String(name)}: ${String(rows)}`);
  }
  return found;
}

const said = (reader: Reader, key: string, m = 1) => ({
  ...outgoing(reader),
  key,
  json: JSON.stringify({ m, name: secret }),
  headers: JSON.stringify({ about: secret }),
});
const erase = async (key: string): Promise<Operation> =>
  drive(engine.db, await beginErase(engine.db, key, {}, ann, key));
const stateOf = async (place: Place | undefined) =>
  (await messageStatus(engine.db, publicId(place ?? { id: "0", nonce: "0" })))?.map(({ state, reason }) => [
    state,
    reason,
  ]);

async function queue(idempotency: Idempotency = "handler") {
  const name = fresh("erase");
  const reader = await makeQueue(engine, name, idempotency);
  return { name, reader, worker: await makeWorker(engine, [reader]) };
}

/** What handlers and producers leave beside a message: a result, a step, progress, a dedupe key and a scheduled message. */
async function plant(
  name: string,
  reader: Reader,
  worker: string,
  key: string,
  places: readonly Place[],
): Promise<void> {
  await engine.admin.rows(
    "insert into posthorn.result (subscription, message, nonce, ended_at, keep_until, result) values ($1, $2, $3, now(), now() + interval '1 day', json_build_object('to', $4::text)) on conflict do nothing",
    [reader.subscription, places[0]?.id, places[0]?.nonce, secret],
  );
  await engine.admin.rows(
    `insert into posthorn.step (subscription, message, name, result) values ($1, $2, 'asked', json_build_object('said', $3::text))`,
    [reader.subscription, places[3]?.id, secret],
  );
  await engine.admin.rows(
    "insert into posthorn.progress (subscription, message, delivery, worker, at, value) values ($1, $2, 1, $3, now(), json_build_object('at', $4::text))",
    [reader.subscription, places[0]?.id, worker, secret],
  );
  await engine.admin.rows("select posthorn.send($1, $2::json, key => $3, options => $4::json)", [
    `Do${name}`,
    JSON.stringify({ m: 8, name: secret }),
    key,
    JSON.stringify({ delayMs: 3_600_000, dedupe: { key: `dedupe-${secret}`, mode: "drop", windowMs: 10_000_000 } }),
  ]);
}

test.each(["handler", "transaction"] as const)(
  "in mode %s no byte of what was said under the key can be read in any table afterwards, wherever it lay; other keys are untouched",
  async (mode) => {
    const { name, reader, worker } = await queue(mode);
    const key = fresh("customer");
    const ends = mode === "transaction";
    const places = await writeMessages(engine.db, [
      ...[1, 2, 3, 4, 5, 6].map((m) => said(reader, key, m)),
      { ...outgoing(reader), key: "other", json: '{"m":7,"name":"somebody"}' },
    ]);
    const [done, dead, invalid, retried] = await claim(engine.db, reader, worker, 4);
    if (!done || !dead || !invalid || !retried) throw new Error("four were said");
    const result = { result: { text: `{"to":"${secret}"}`, keepMs: 60_000 } };
    const error = { name: "Error", message: `no mailbox of ${secret}`, stack: `at ${secret}` };
    const failed = (one: typeof done, next: Parameters<typeof end>[2]) => ({
      ...end(one, "failed", next, ends),
      entry: { attempt: 1, outcome: "failed", error },
    });
    await settle(
      engine.db,
      ends
        ? []
        : [
            part([done], 1, "succeeded", false),
            part([dead, retried], 2, "failed", false),
            part([invalid], 3, "invalid", true),
          ],
      [
        end(done, "succeeded", ends ? null : result, ends),
        failed(dead, giveUp),
        { ...end(invalid, "invalid", { invalid: [{ path: "name", message: `${secret} does not fit` }] }, ends) },
        failed(retried, { defer: { delayMs: 3_600_000, attempts: 1, crashes: 0 } }),
      ],
      null,
    );
    await plant(name, reader, worker, key, places);
    expect((await readable(secret)).length).toBeGreaterThan(6);
    const operation = await erase(key);
    expect(operation).toMatchObject({ state: "done", done: 7, found: 7 });
    expect(await readable(secret)).toEqual([]);
    // The record names the key to whoever knows it.
    expect(operation.arguments.key).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(await Promise.all(places.map(stateOf))).toEqual([
      [["succeeded", null]],
      ...upTo5().map(() => [["discarded", "erased"]]),
      [["queued", null]],
    ]);
    // No handler ever runs with what stands in its place.
    const { deliveries } = await work(engine.db, reader.subscription, worker, 50, []);
    expect(deliveries.map(({ payload }) => payload)).toEqual([{ m: 7, name: "somebody" }]);
    await settle(
      engine.db,
      ends ? [] : [part(deliveries, 1, "succeeded", true)],
      ends ? deliveries.map((one) => end(one, "succeeded", null, true)) : [],
      null,
    );
    expect((await takeDue(engine.db, reader.subscription, worker, [reader.contract], 50)).deliveries).toEqual([]);
    // A replay passes over what was erased.
    const from = String(await engine.admin.value("select posthorn.oldest_kept($1::int)::text", [reader.channel]));
    expect(await drive(engine.db, await beginReplay(engine.db, name, { from }, ann, name))).toMatchObject({ done: 1 });
  },
);

const upTo5 = () => [1, 2, 3, 4, 5];

test.each(["succeeds", "fails", "dies"] as const)(
  "a handler that runs while its message is erased, and then %s, goes on to its end, never runs again, and leaves nothing that can be read",
  async (how) => {
    const { reader, worker } = await queue();
    const key = fresh("runs");
    const [place] = await writeMessages(engine.db, [said(reader, key)]);
    const [running] = await claim(engine.db, reader, worker, 1);
    if (running === undefined) throw new Error("one was said");
    const operation = await beginErase(engine.db, key, {}, ann, key);
    let now = await proceed(engine.db, operation.operation, 100);
    for (let round = 0; round < 20; round += 1) now = await proceed(engine.db, operation.operation, 100);
    expect(now).toMatchObject({ state: "running", done: 1, busy: true });
    expect(
      await engine.admin.value(
        "select count(*)::int from posthorn.cancel_requests($1::bigint) r(j) where j::text <> '[]'",
        [worker],
      ),
    ).toBe(0);
    if (how === "dies") {
      await die(engine, worker);
      await rescueAll(engine.db);
    } else {
      const result = { result: { text: `{"to":"${secret}"}`, keepMs: 60_000 } };
      const failed = {
        ...end(running, "failed", retryNow),
        entry: { attempt: 1, outcome: "failed", error: { name: "E", message: secret } },
      };
      await settle(
        engine.db,
        [part([running], 1, how === "fails" ? "failed" : "succeeded", true)],
        [how === "fails" ? failed : end(running, "succeeded", result)],
        null,
      );
    }
    expect(await drive(engine.db, operation)).toMatchObject({ state: "done" });
    expect(await readable(secret)).toEqual([]);
    expect(await stateOf(place)).toEqual([how === "succeeds" ? ["succeeded", null] : ["discarded", "erased"]]);
    const other = await makeWorker(engine, [reader]);
    expect((await takeDue(engine.db, reader.subscription, other, [reader.contract], 10)).deliveries).toEqual([]);
    expect((await work(engine.db, reader.subscription, other, 10, [])).deliveries).toEqual([]);
  },
);

test("a retry that runs while its message is erased loses its copy, and fails for good", async () => {
  const { reader, worker } = await queue();
  const key = fresh("retries");
  const [place] = await writeMessages(engine.db, [said(reader, key)]);
  const held = await claim(engine.db, reader, worker, 1);
  await settle(
    engine.db,
    [part(held, 1, "failed", true)],
    held.map((one) => end(one, "failed", retryNow)),
    null,
  );
  const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 1);
  const operation = await beginErase(engine.db, key, {}, ann, key);
  while ((await proceed(engine.db, operation.operation, 100)).busy !== true);
  expect(await readable(secret)).toEqual([]);
  await settle(
    engine.db,
    [],
    deliveries.map((one) => end(one, "failed", retryNow)),
    null,
  );
  expect(await drive(engine.db, operation)).toMatchObject({ state: "done" });
  expect(await stateOf(place)).toEqual([["discarded", "erased"]]);
});

test("an event is erased for each of its receivers", async () => {
  const readers = await makeTopic(engine, fresh("facts"), [fresh("one"), fresh("two")]);
  const [one, two] = readers;
  if (one === undefined || two === undefined) throw new Error("two were made");
  const worker = await makeWorker(engine, readers);
  const key = fresh("fact");
  const [place] = await writeMessages(engine.db, [said(one, key)]);
  const held = await claim(engine.db, one, worker, 1);
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  await erase(key);
  expect((await stateOf(place))?.map(([state]) => state).sort()).toEqual(["discarded", "succeeded"]);
  expect(await readable(secret)).toEqual([]);
  expect((await work(engine.db, two.subscription, worker, 10, [])).deliveries).toEqual([]);
});

test("erasing without a confirmation, under a contract that is not known, or a key that a schedule sends, is refused and changes nothing", async () => {
  const { name, reader } = await queue();
  const key = fresh("kept");
  await writeMessages(engine.db, [said(reader, key)]);
  expect(await failure(beginErase(engine.db, key, {}, ann, null))).toMatchObject({ code: "PH_CONFIRMATION_MISSING" });
  expect(await failure(beginErase(engine.db, "", {}, ann, ""))).toMatchObject({ code: "PH_OPTION_INVALID" });
  expect(await failure(beginErase(engine.db, key, { contract: "DoNothing" }, ann, key))).toMatchObject({
    code: "PH_NAME_UNKNOWN",
  });
  await engine.admin.rows(
    `insert into posthorn.schedule (name, cron, time_zone, contract, missed, jitter_ms, payload, key, next_at, due_at, service)
     select 'nightly', '0 3 * * *', 'UTC', c.id, 'skip', 0, '{}', $2, now() + interval '1 day', now() + interval '1 day', 'test' from posthorn.contract c where c.name = $1`,
    [`Do${name}`, key],
  );
  expect(await failure(beginErase(engine.db, key, {}, ann, key))).toMatchObject({ code: "PH_SCHEDULE_SENDS" });
  await engine.admin.rows("delete from posthorn.schedule");
  expect((await readable(secret)).length).toBeGreaterThan(0);
  expect(await erase(key)).toMatchObject({ state: "done", done: 1 });
});
