import { minutes } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { jitterOf } from "../../src/schedules/due.js";
import { type DueSchedule, dueSchedules, fireSchedules, type Timed } from "../../src/store/schedules.js";
import { rejected } from "../core/thrown.js";
import { eventually } from "../support/eventually.js";
import {
  connection,
  decisions,
  fresh,
  instance,
  listening,
  overdue,
  rows,
  SendKeyed,
  SendReport,
  scheduler,
  sentBy,
  yearly,
} from "./stage.js";

const static_ = { ...yearly, command: SendReport, payload: { for: "all" } };
const ago = (ms: number): Date => new Date(Math.floor(Date.now() / 1_000) * 1_000 - ms);
const row = async (name: string) => (await rows("select * from posthorn.schedule where name = $1", [name]))[0] ?? {};

test("a schedule sends its command at its time, with its headers, and the handler can tell which time it was", async () => {
  const name = fresh("report");
  const handled: { for: string; headers: Readonly<Record<string, string>>; at: number }[] = [];
  const post = instance();
  post.queue("reports", decisions).handle(SendReport, async (report, { message }) => {
    if (message.headers["posthorn-schedule"] === name)
      handled.push({ ...report, headers: message.headers, at: Date.now() });
  });
  post.schedule(name, {
    cron: "* * * * * *",
    timeZone: "Europe/Berlin",
    missed: "skip",
    command: SendReport,
    payload: (at) => ({ for: at.toISOString() }),
    headers: { "x-team": "sales" },
  });
  await post.start();
  await eventually(() => handled.length >= 3);
  await post.stop();
  for (const one of handled) {
    expect(one.for).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/);
    expect(one.headers).toEqual({ "x-team": "sales", "posthorn-schedule": name, "posthorn-scheduled-for": one.for });
    // Never before its time; how soon after it is measured elsewhere.
    expect(one.at).toBeGreaterThanOrEqual(Date.parse(one.for) - 5);
  }
  expect(new Set(handled.map((one) => one.for)).size).toBe(handled.length);
  await rows("delete from posthorn.schedule where name = $1", [name]);
});

test("of many processes that wake in one moment one sends, and the others find it done", async () => {
  // Goal: one command for one time. Method: eight schedulers on connections of their own, twenty times; all passes begin at once.
  const name = fresh("once");
  const fleet = await Promise.all(Array.from({ length: 8 }, () => scheduler([[name, static_]])));
  const times: string[] = [];
  for (let round = 1; round <= 20; round += 1) {
    const at = ago(minutes(1) - round * 1_000);
    times.push(at.toISOString());
    await overdue(name, at);
    await Promise.all(fleet.map((one) => one.pass()));
  }
  expect((await sentBy(name)).map((one) => one.for)).toEqual(times);
});

test("a time that was sent is not sent again after the clock has jumped back, also when the schedule is declared anew", async () => {
  // As it looks after a jump: the newest time that was sent lies in the future, and times before it come once more.
  const name = fresh("clock");
  const one = await scheduler([[name, static_]]);
  await overdue(name, ago(1_000));
  await one.pass();
  expect(await sentBy(name)).toHaveLength(1);
  const future = new Date(Date.now() + minutes(60));
  await rows("update posthorn.schedule set last_at = $2 where name = $1", [name, future]);
  await overdue(name, ago(1_000));
  await one.pass();
  expect(await sentBy(name)).toHaveLength(1);
  const secondly = { ...static_, cron: "* * * * * *" };
  await scheduler([[name, secondly]]);
  expect((await row(name)).next_at).toEqual(new Date(Math.floor(future.getTime() / 1_000) * 1_000 + 1_000));
});

test("a schedule whose time lies ahead by the clock of the database is not sent, whatever a process believes", async () => {
  const name = fresh("early");
  await scheduler([[name, static_]]);
  const { revision, next_at } = await row(name);
  const fired = await rows<{ fired: unknown }>(
    "select posthorn.fire_schedule($1, $2, $3, $3::timestamptz + interval '1 year', $3::timestamptz + interval '1 year', $4) as fired",
    [name, revision, next_at, JSON.stringify([{ at: next_at }])],
  );
  expect(fired).toEqual([{ fired: null }]);
  expect(await sentBy(name)).toEqual([]);
});

test("after a downtime each decision about missed times is kept, and the next time is ahead", async () => {
  const now = new Date();
  const year = now.getUTCFullYear();
  const firsts = [year - 2, year - 1, year].map((one) => `${one}-01-01T00:00:00.000Z`);
  const wanted = { skip: [], once: firsts.slice(-1), all: firsts };
  for (const missed of ["skip", "once", "all"] as const) {
    const name = fresh("missed");
    const { logger, told } = listening();
    const one = await scheduler([[name, { ...static_, missed }]], { logger });
    await overdue(name, `${year - 2}-01-01T00:00:00Z`);
    await one.pass();
    expect(
      (await sentBy(name)).map(({ for: at }) => at),
      missed,
    ).toEqual(wanted[missed]);
    expect(await row(name), missed).toMatchObject({ next_at: new Date(`${year + 1}-01-01T00:00:00Z`) });
    expect(
      told.map(({ level }) => level),
      missed,
    ).toEqual(missed === "all" ? [] : ["warn"]);
    await one.pass();
    expect(await sentBy(name), missed).toHaveLength(wanted[missed].length);
  }
});

test("many missed times are sent in several transactions, a thousand at most, and the process may die between them", async () => {
  const name = fresh("many");
  const secondly = { ...static_, cron: "* * * * * *" };
  const first = await scheduler([[name, secondly]]);
  await overdue(name, ago(minutes(30)));
  await first.pass();
  expect(await sentBy(name)).toHaveLength(100);
  // The first process is gone; another one, which does not declare the schedule, goes on.
  const other = await scheduler([], { service: "other" });
  await eventually(async () => (await other.pass()) > 0 && ((await row(name)).next_at as Date) > new Date());
  const sent = (await sentBy(name)).map((one) => Date.parse(one.for));
  expect([...new Set(sent)].sort((a, b) => a - b)).toEqual(sent);
  const gaps = new Set(sent.slice(1).map((at, i) => at - (sent[i] ?? 0)));
  // The newest thousand of each look: while it sends, time goes on, so that a few more are sent, and none in between is left out.
  expect([...gaps]).toEqual([1_000]);
  expect(sent.length).toBeGreaterThanOrEqual(1_000);
  expect(sent.length).toBeLessThan(1_100);
  await rows("delete from posthorn.schedule where name = $1", [name]);
});

test("a process that does not declare a schedule sends for it, but for one whose payload a function makes", async () => {
  const [plain, computed] = [fresh("plain"), fresh("computed")];
  const own = await scheduler([
    [plain, { ...static_, command: SendKeyed, payload: { for: "k" }, headers: { a: "b" } }],
    [computed, { ...static_, command: SendKeyed, payload: (at: Date) => ({ for: at.toISOString().slice(0, 10) }) }],
  ]);
  const other = await scheduler([], { service: "other" });
  await overdue(plain, ago(1_000));
  await overdue(computed, "2026-01-01T00:00:00Z");
  await other.pass();
  expect(await sentBy(plain)).toMatchObject([{ key: "k", payload: { for: "k" }, headers: { a: "b" } }]);
  expect(await sentBy(computed)).toEqual([]);
  await own.pass();
  expect((await sentBy(computed))[0]).toMatchObject({ key: "2026-01-01", payload: { for: "2026-01-01" } });
});

test("of two processes that declare one schedule differently the one that started last counts, and says so", async () => {
  const name = fresh("anew");
  const { logger, told } = listening();
  const old = await scheduler([[name, { ...static_, payload: () => ({ for: "old" }) }]]);
  await scheduler([[name, { ...static_, payload: () => ({ for: "old" }) }]], { logger });
  expect(told).toEqual([]);
  const fresher = await scheduler([[name, { ...static_, payload: () => ({ for: "new" }) }]], { logger });
  expect(told).toMatchObject([
    { level: "info", facts: { schedule: name, changed: ["payload"], before: { cron: yearly.cron } } },
  ]);
  await overdue(name, ago(1_000));
  await old.pass();
  expect(await sentBy(name)).toEqual([]);
  await fresher.pass();
  expect(await sentBy(name)).toMatchObject([{ payload: { for: "new" } }]);
});

test("a schedule whose cron line or zone changes sends nothing of the past, and one whose payload changes makes up for what it missed", async () => {
  const [line, zone, payload] = [fresh("line"), fresh("zone"), fresh("payload")];
  const all = [line, zone, payload];
  await scheduler(all.map((name) => [name, static_] as const));
  for (const name of all) await overdue(name, ago(1_000));
  const next = await scheduler([
    [line, { ...static_, cron: "0 12 31 12 *" }],
    [zone, { ...static_, timeZone: "Asia/Tokyo" }],
    [payload, { ...static_, payload: { for: "changed" } }],
  ]);
  await next.pass();
  expect(await sentBy(line)).toEqual([]);
  expect(await sentBy(zone)).toEqual([]);
  expect(await sentBy(payload)).toMatchObject([{ payload: { for: "changed" } }]);
  expect(((await row(line)).next_at as Date).toISOString()).toMatch(/-12-31T12:00:00.000Z$/);
});

test("a schedule that another service declares for another command is refused with both named; for the same command it is taken over", async () => {
  const name = fresh("shared");
  await scheduler([[name, static_]], { service: "shop" });
  const clash = await rejected(scheduler([[name, { ...static_, command: SendKeyed }]], { service: "billing" }));
  expect(clash).toMatchObject({ code: "PH_CONTRACT_CONFLICT" });
  expect(clash.message).toMatch(
    /sends "SendReport" for service "shop", and service "billing" declares it for "SendKeyed".*posthorn schedules remove/,
  );
  await scheduler([[name, static_]], { service: "billing" });
  expect(await row(name)).toMatchObject({ service: "billing" });
  await scheduler([[name, { ...static_, command: SendKeyed }]], { service: "billing" });
  expect(
    await rows(
      "select c.name from posthorn.schedule s join posthorn.contract c on c.id = s.contract where s.name = $1",
      [name],
    ),
  ).toEqual([{ name: "SendKeyed" }]);
});

test("a removed schedule sends nothing more, and comes back with the next start that declares it, without what lay between", async () => {
  const name = fresh("removed");
  const one = await scheduler([[name, static_]]);
  await overdue(name, ago(1_000));
  await rows("select posthorn.remove_schedule($1)", [name]);
  await one.pass();
  expect(await sentBy(name)).toEqual([]);
  await scheduler([[name, static_]]);
  expect(((await row(name)).next_at as Date) > new Date()).toBe(true);
});

test("a command that cannot be made is told, kept beside the schedule, tried again later, and holds no other schedule", async () => {
  const [broken, sound] = [fresh("broken"), fresh("sound")];
  const { logger, told } = listening();
  let works = true;
  const one = await scheduler(
    [
      [
        broken,
        {
          ...static_,
          payload: () => {
            if (works) return { for: "x" };
            throw new Error("no figures yet");
          },
        },
      ],
      [sound, static_],
    ],
    { logger },
  );
  works = false;
  for (const name of [broken, sound]) await overdue(name, ago(1_000));
  const wait = await one.pass();
  expect(wait).toBeLessThanOrEqual(1_000);
  expect(await sentBy(sound)).toHaveLength(1);
  expect(await row(broken)).toMatchObject({ error: "Error: no figures yet" });
  expect(told).toMatchObject([{ level: "error", facts: { schedule: broken } }]);
  works = true;
  await eventually(async () => {
    await one.pass();
    return (await sentBy(broken)).length === 1;
  });
  expect(await row(broken)).toMatchObject({ error: null, failed_at: null });
});

test("with a jitter a command is due by it after its time, in every process alike, and says its time without it", async () => {
  const name = fresh("jitter");
  const spread = { ...static_, jitterMs: minutes(5) };
  const one = await scheduler([[name, spread]]);
  const { next_at, due_at } = (await row(name)) as { next_at: Date; due_at: Date };
  expect(due_at.getTime() - next_at.getTime()).toBe(jitterOf(name, next_at.getTime(), minutes(5)));
  const last = new Date(`${new Date().getUTCFullYear()}-01-01T00:00:00Z`);
  await overdue(name, last, new Date(last.getTime() + jitterOf(name, last.getTime(), minutes(5))));
  await one.pass();
  expect(await sentBy(name)).toMatchObject([{ for: last.toISOString() }]);
  expect(await row(name)).toMatchObject({ next_at, due_at });
});

test("a schedule of every second sends one for each second until its only process is stopped", async () => {
  const name = fresh("stopped");
  const post = instance();
  onTestFinished(async () => void (await rows("delete from posthorn.schedule where name = $1", [name])));
  post.schedule(name, { ...static_, cron: "* * * * * *" });
  await post.start();
  await eventually(async () => (await sentBy(name)).length >= 2);
  await post.stop();
  const before = await sentBy(name);
  const times = before.map((one) => Date.parse(one.for));
  expect(new Set(times.slice(1).map((at, i) => at - (times[i] ?? 0)))).toEqual(new Set([1_000]));
});

test("a process that looked before another sent, or before the schedule was declared anew, sends nothing and moves nothing", async () => {
  const name = fresh("stale");
  await scheduler([[name, static_]]);
  const executor = await connection();
  const fire = async (schedule: DueSchedule, messages: readonly Timed[], next: { upcoming: number; due: number }) =>
    (await fireSchedules(executor, [{ schedule, messages, ...next }]))[0];
  const look = async () => (await dueSchedules(executor, {}, 100)).due.find((one) => one.name === name);
  // Three times are due; the other process has sent the first.
  await overdue(name, ago(3_000));
  const seen = await look();
  if (seen === undefined) throw new Error("nothing is due");
  const at = seen.nextAt;
  const upcoming = { upcoming: at + 1_000, due: at + 1_000 };
  expect(await fire(seen, [{ at }], upcoming)).toMatchObject({ messages: 1 });
  expect(await fire(seen, [{ at }], upcoming)).toBeNull();
  expect(await fire(seen, [{ at: at + 500 }], { upcoming: at + 600, due: at + 600 })).toBeNull();
  // The same next time, and another declaration.
  const before = await look();
  if (before === undefined) throw new Error("nothing is due");
  await scheduler([[name, { ...static_, payload: { for: "changed" } }]]);
  expect(await look()).toMatchObject({ nextAt: before.nextAt });
  const later = { upcoming: at + 2_000, due: at + 2_000 };
  expect(await fire(before, [{ at: before.nextAt }], later)).toBeNull();
  expect(await sentBy(name)).toHaveLength(1);
  expect((await look())?.nextAt).toBe(at + 1_000);
  // Backwards is refused, whoever asks.
  const now = await look();
  if (now === undefined) throw new Error("nothing is due");
  expect(await rejected(fire(now, [{ at }], { upcoming: at, due: at }))).toMatchObject({
    code: "PH_INTERNAL",
  });
});
