/** How an intake stands: who runs it is true in every moment, and time in which nobody could have connected counts for nobody. */
import { expect, test } from "vitest";
import { holdIntakes } from "../../src/store/intake.js";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { asExecutor, fresh, instance, intakeRow, OrderPlaced, onServer, rows, session, url } from "./stage.js";

onServer();

const line = async (name: string) =>
  (
    await rows<{ connected: boolean; holders: readonly object[]; away_since: Date | null; stopped_at: Date | null }>(
      "select connected, holders, away_since, stopped_at, trouble from posthorn.intakes where name = $1",
      [name],
    )
  )[0];

async function worker(values = "'x', 'x', 1, 600000, 0, null"): Promise<string> {
  const [made] = await rows<{ id: string }>(
    `insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim, session_key) values (${values}) returning id::text`,
  );
  return made?.id ?? "";
}

/** What crosses its bound now, raised or not. */
const away = async (name: string) => {
  const [found] = await rows<{ alerts: readonly { subscription: string; alert: string; detail: string | null }[] }>(
    "select posthorn.crossed_alerts() as alerts",
  );
  return found?.alerts.filter((one) => one.subscription === name && one.alert === "intakeAwayMs") ?? [];
};

async function stopped(name: string, broker = new MemoryBroker()) {
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced], alerts: { awayMs: 60_000 } });
  await post.start();
  await eventually(async () => (await line(name))?.connected === true);
  await post.stop();
}

async function startRefused(name: string) {
  const broker = new MemoryBroker();
  broker.refuses = new Error("connect ECONNREFUSED 127.0.0.1:5672");
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced], alerts: { awayMs: 60_000 } });
  await post.start();
}

// Before, it was shown as connected, and as running on a process that was dead, for as long as its last report counts.
test.each([
  ["whose session has ended", "'x', 'x', 1, 600000, 0, 4711", "true"],
  ["whose heartbeat has ended, where there are no sessions to be looked up", "'x', 'x', 1, 600000, 0, null", "false"],
])(
  "an intake is run by nobody from the moment on in which its holder is dead: one %s",
  async (_what, values, beats) => {
    const name = fresh("dead");
    await stopped(name);
    const id = await worker(values);
    // It has just said that it is connected.
    await rows("update posthorn.intake set worker = $2, seen_at = now(), away_since = null where name = $1", [
      name,
      id,
    ]);
    const beat = (alive: string) =>
      rows(
        "update posthorn.worker set heartbeat_at = case when $2::boolean then now() else '-infinity' end where id = $1",
        [id, alive],
      );
    await beat(beats);
    const { seen_at } =
      (await rows<{ seen_at: Date }>("select seen_at from posthorn.intake where name = $1", [name]))[0] ?? {};
    expect(await line(name)).toEqual({
      connected: false,
      holders: [],
      trouble: null,
      away_since: seen_at,
      stopped_at: seen_at,
    });
    // With a session that is there, and with a heartbeat, it runs.
    await rows("update posthorn.worker set session_key = null where id = $1", [id]);
    await beat("true");
    expect(await line(name)).toMatchObject({
      connected: true,
      away_since: null,
      stopped_at: null,
      holders: [{ pid: 1 }],
    });
    await rows("delete from posthorn.worker where id = $1", [id]);
  },
);

test("of an intake that is pushed to those that are dead are not shown, and it is connected as long as one that lives is", async () => {
  const name = fresh("dead-pushed");
  await stopped(name);
  const { id } = await intakeRow(name);
  const [one, other] = [await worker(), await worker()];
  const client = asExecutor(await session());
  for (const [holder, connected] of [
    [one, true],
    [other, false],
  ] as const)
    await holdIntakes(client, holder, [{ id, wants: true, connected, trouble: null, pushed: true }]);
  expect(await line(name)).toMatchObject({ connected: true, holders: [{ worker: one }, { worker: other }] });
  await rows("update posthorn.worker set heartbeat_at = '-infinity' where id = $1", [one]);
  expect(await line(name)).toMatchObject({ connected: false, stopped_at: null, holders: [{ worker: other }] });
  await rows("delete from posthorn.worker where id = any ($1)", [[one, other]]);
});

test("an intake that was stopped is said to be stopped, since when, and what its last holder waited for no more", async () => {
  const name = fresh("stopped");
  const before = new Date();
  await stopped(name);
  const seen = await line(name);
  expect(seen).toMatchObject({ connected: false, holders: [], trouble: null });
  expect(seen?.stopped_at?.getTime()).toBeGreaterThanOrEqual(before.getTime() - 1_000);
});

// Before, the alert rose at the start, before anything could be connected.
test("what nobody runs for longer than awayMs raises the alert, which names the way out; the one that starts it then has awayMs to connect", async () => {
  const name = fresh("hour");
  await stopped(name);
  expect(await away(name)).toEqual([]);
  await rows(
    "update posthorn.intake set away_since = away_since - interval '1 h', seen_at = seen_at - interval '1 h' where name = $1",
    [name],
  );
  expect(await away(name)).toMatchObject([{ detail: expect.stringContaining(`posthorn intakes remove ${name}`) }]);
  await startRefused(name);
  expect(await away(name)).toEqual([]);
  await rows("update posthorn.intake set away_since = away_since - interval '61 s' where name = $1", [name]);
  expect(await away(name)).toMatchObject([{ detail: "connect ECONNREFUSED 127.0.0.1:5672" }]);
});

test("a holder that was killed while it was connected is away from then on", async () => {
  const name = fresh("killed");
  await stopped(name);
  await rows(
    "update posthorn.intake set away_since = null, seen_at = now() - interval '61 s', worker = -1 where name = $1",
    [name],
  );
  expect(await away(name)).toMatchObject([{ detail: expect.stringContaining("no process runs it") }]);
});

test("processes that follow one another quickly while a broker is away do not put off the alert", async () => {
  const name = fresh("loop");
  await stopped(name);
  const client = asExecutor(await session());
  const { id } = await intakeRow(name);
  for (const pushed of [false, true]) {
    await rows(
      "update posthorn.intake set away_since = now() - interval '70 s', seen_at = now() - interval '2 s', worker = null where id = $1",
      [id],
    );
    const next = await worker();
    await holdIntakes(client, next, [{ id, wants: true, connected: false, trouble: "refused", pushed }]);
    expect(await away(name)).toHaveLength(1);
    await holdIntakes(client, next, [{ id, wants: false, connected: false, trouble: "refused", pushed }]);
    await rows("delete from posthorn.worker where id = $1", [next]);
  }
});

// Before, the time of a pause counted as time away the moment it ended.
// The last that was started was shown as the one that is read from, and nothing of it was.
test("of two processes that say different brokers, as in the middle of a deployment, the one that runs the intake is shown, and the other when it takes over", async () => {
  const name = fresh("moved");
  const [before, after] = [new MemoryBroker("memory/before"), new MemoryBroker("memory/after")];
  const [old, young] = [instance("shop"), instance("shop", undefined, `${url()}?application_name=${name}`)];
  old.intake(name, { from: before, into: [OrderPlaced] });
  young.intake(name, { from: after, into: [OrderPlaced] });
  await old.start();
  await young.start();
  const shown = async () =>
    (await rows<{ place: string }>("select place from posthorn.intakes where name = $1", [name]))[0]?.place;
  await eventually(async () => (await shown()) === "memory/before");
  before.put(cloudEvent("OrderPlaced", { orderId: name, cents: 1 }));
  await eventually(() => before.left === 0);
  await old.stop();
  await eventually(() => after.opened.length === 1);
  await eventually(async () => (await shown()) === "memory/after");
});

test("the time of a pause is no time away", async () => {
  const name = fresh("paused");
  await stopped(name);
  const post = instance();
  await post.operate.pause(name, { by: "anna" });
  await rows(
    "update posthorn.intake set away_since = now() - interval '1 h', seen_at = now() - interval '1 h' where name = $1",
    [name],
  );
  expect(await away(name)).toEqual([]);
  await post.operate.resume(name, { by: "anna" });
  expect(await away(name)).toEqual([]);
});
