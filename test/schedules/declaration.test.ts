import { command, event, limits, minutes, type Post, posthorn, query, type Sql, type } from "posthorn";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { silentLogger } from "../../src/core/logger.js";
import { rejected, thrown } from "../core/thrown.js";
import { createDatabase } from "../support/server.js";

const SendReport = command("SendReport", { queue: "reports", schema: z.object({ for: z.string().min(1) }) });
const SendKeyed = command("SendKeyed", { queue: "reports", schema: type<{ k: string }>(), key: ({ k }) => k });
const SendNothing = command("SendNothing", { queue: "reports", schema: z.null() });
const ReportSent = event("ReportSent", { topic: "reports", schema: type<{ for: string }>() });
const ReportOf = query("ReportOf", { request: type<string>(), response: type<string>(), deadlineMs: 100 });
const good = {
  cron: "0 3 * * *",
  timeZone: "UTC",
  command: SendReport,
  payload: { for: "all" },
  missed: "skip",
} as const;

// Nothing here is opened: what is wrong is told before.
let post: Post<Sql>;
beforeEach(() => {
  post = posthorn({ service: "shop", database: "postgres://nobody@127.0.0.1:1/nothing", logger: silentLogger });
  onTestFinished(() => post.stop());
});
/** As JavaScript may call it. */
const schedule = (options: unknown, name: unknown = "report"): unknown =>
  post.schedule(name as string, options as typeof good);
const refusal = (options: unknown, name?: unknown) => thrown(() => schedule(options, name));

test("the decisions of a schedule have no default: cron, timeZone, command, payload and missed are asked for together", () => {
  const error = refusal({});
  expect(error).toMatchObject({
    code: "PH_OPTION_MISSING",
    facts: { missing: ["cron", "timeZone", "command", "payload", "missed"] },
  });
  expect(refusal({ ...good, timeZone: undefined })).toMatchObject({ facts: { missing: ["timeZone"] } });
  expect(refusal({ ...good, delayMs: 5 })).toMatchObject({ code: "PH_OPTION_UNKNOWN" });
  expect(refusal(undefined)).toMatchObject({ code: "PH_OPTION_INVALID" });
});

test("a cron line that never comes is refused, and one that comes once in years is not", () => {
  for (const cron of ["0 0 31 2 *", "0 0 30 FEB *", "0 0 0 31 4,6,9,11 *", "0 0 31 2 +MON"]) {
    const error = refusal({ ...good, cron });
    expect(error, cron).toMatchObject({ code: "PH_OPTION_INVALID" });
    expect(error.message).toMatch(
      /^schedule report\.cron never comes: no date fits ".+"\. Correct the day or the month\.$/,
    );
  }
  const leap = post.schedule("leap", { ...good, cron: "0 0 29 2 *" });
  expect(leap.next(new Date("2026-01-01")).toISOString()).toBe("2028-02-29T00:00:00.000Z");
});

test("a bad line, an unknown zone, an unknown decision and an absurd jitter are refused with the reason", () => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [
      { cron: "61 * * * *" },
      /report\.cron must be a cron line.*"61 \* \* \* \*" is none: Invalid value for minute: 61\./,
    ],
    [{ cron: "tomorrow" }, /report\.cron must be a cron line of 5 fields/],
    [{ timeZone: "Mars/Phobos" }, /report\.timeZone must be the name of a time zone/],
    [{ timeZone: "+02:00" }, /report\.timeZone must be the name of a time zone/],
    [{ missed: "never" }, /report\.missed must be one of "skip", "once", "all"/],
    [{ jitterMs: -1 }, /report\.jitterMs must be an integer from 0 to 86400000/],
    [{ jitterMs: Number.NaN }, /report\.jitterMs must be an integer/],
    [{ jitterMs: limits.scheduleJitterMs + 1 }, /report\.jitterMs must be an integer/],
    [{ cron: "* * * * *", jitterMs: minutes(1) + 1 }, /jitterMs is 1 min, longer than the 1 min between two times/],
    [{ cron: "0 3,4 * * *", jitterMs: minutes(61) }, /jitterMs is 1 h 1 min, longer than the 1 h between two times/],
    [{ headers: { a: 1 } }, /headers must be a plain object whose values are strings/],
    [
      { headers: { "Posthorn-Schedule": "x" } },
      /has "Posthorn-Schedule": names that begin with "posthorn-" are the library's/,
    ],
  ];
  for (const [wrong, reason] of cases) expect(refusal({ ...good, ...wrong }).message).toMatch(reason);
  schedule({ ...good, cron: "* * * * *", jitterMs: minutes(1) });
});

test("an event, a query and what is no contract are refused: only commands can be scheduled", () => {
  expect(refusal({ ...good, command: ReportSent }).message).toMatch(
    /^schedule\(\) takes a command; ReportSent is an event: use publish\(\)\.$/,
  );
  expect(refusal({ ...good, command: ReportOf }).message).toMatch(/ReportOf is a query: use ask\(\)/);
  for (const command of ["SendReport", { ...SendReport }, null, 5]) {
    expect(refusal({ ...good, command })).toMatchObject({ code: "PH_WRONG_KIND" });
  }
});

test("a payload that does not fit is refused where it is declared, that of a function for the next time", () => {
  const cases: readonly (readonly [object, string, RegExp])[] = [
    [{ payload: { for: "" } }, "PH_PAYLOAD_INVALID", /payload of SendReport does not fit/],
    [{ payload: { for: 5n } }, "PH_PAYLOAD_NOT_JSON", /for is a bigint/],
    [{ payload: () => ({ for: "" }) }, "PH_PAYLOAD_INVALID", /payload of SendReport does not fit/],
    [{ payload: async () => ({ for: "x" }) }, "PH_PAYLOAD_NOT_JSON", /a Promise \(is an `await` missing\?\)/],
    [{ command: SendKeyed, payload: { k: "" } }, "PH_KEY_INVALID", /returned an empty string/],
    [{ payload: { for: "x".repeat(limits.payloadBytes) } }, "PH_PAYLOAD_TOO_LARGE", /./],
    [{ headers: { a: "x".repeat(limits.headersBytes - 60) } }, "PH_PAYLOAD_TOO_LARGE", /The headers have/],
  ];
  for (const [wrong, code, reason] of cases) {
    const error = refusal({ ...good, ...wrong });
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(reason);
  }
  schedule({ ...good, command: SendNothing, payload: null });
  const failing = () => schedule({ ...good, payload: () => JSON.parse("{") }, "failing");
  expect(failing).toThrow(SyntaxError);
});

test("a name is checked, is used once, and is declared before the start", async () => {
  for (const name of [undefined, "", "Daily Report", "a".repeat(81)]) {
    expect(refusal(good, name ?? null)).toMatchObject({ code: "PH_NAME_INVALID" });
  }
  schedule(good);
  expect(refusal(good)).toMatchObject({ code: "PH_DECLARED_TWICE" });
  // Its name is apart from those of queues.
  schedule(good, "reports");
  const database = await createDatabase();
  const started = posthorn({ service: "shop", database: database.url, migrate: "auto", logger: silentLogger });
  onTestFinished(async () => {
    await started.stop();
    await database.drop();
  });
  await started.start();
  expect(thrown(() => started.schedule("late", good))).toMatchObject({ code: "PH_DECLARED_LATE" });
});

test("a payload that an asynchronous schema refuses is told by start()", async () => {
  const database = await createDatabase();
  const started = posthorn({ service: "shop", database: database.url, migrate: "auto", logger: silentLogger });
  onTestFinished(async () => {
    await started.stop();
    await database.drop();
  });
  const SendLate = command("SendLate", { queue: "late", schema: z.string().refine(async (text) => text === "good") });
  started.schedule("late", { ...good, command: SendLate, payload: "bad" });
  expect(await rejected(started.start())).toMatchObject({ code: "PH_PAYLOAD_INVALID" });
});

test("what a schedule returns says its next time after a moment, in its zone", () => {
  const report = post.schedule("report", { ...good, timeZone: "Europe/Berlin" });
  expect(report.name).toBe("report");
  expect(report.next(new Date("2026-06-01T00:30:00Z"))).toEqual(new Date("2026-06-01T01:00:00Z"));
  expect(report.next(new Date("2026-06-01T01:00:00Z"))).toEqual(new Date("2026-06-02T01:00:00Z"));
  expect(report.next() > new Date()).toBe(true);
  for (const wrong of [new Date(Number.NaN), 5, "now"]) {
    expect(thrown(() => report.next(wrong as Date))).toMatchObject({ code: "PH_OPTION_INVALID" });
  }
});
