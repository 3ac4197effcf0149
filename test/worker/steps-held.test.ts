/** What a step does when its delivery is moved, its connection is cut, or its run is given up. On a real server. */
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { silentLogger } from "../../src/core/logger.js";
import { type Context, command, type Policy, PosthornError, posthorn, retry, type } from "../../src/index.js";
import { openSession, type Session } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const policy = {
  retry: retry.fixed({ attempts: 2, delayMs: 1 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 60_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 60_000 },
} as const satisfies Policy;

let database: Awaited<ReturnType<typeof createDatabase>>;
let admin: Session;
beforeAll(async () => {
  database = await createDatabase();
  admin = await openSession(database.url);
  const post = posthorn({ service: "migrating", database: database.url, migrate: "auto", logger: silentLogger });
  await post.migrate();
  await post.stop();
});
afterAll(async () => {
  await admin.close();
  await database.drop();
});

let opened = 0;
async function stage(
  handler: (context: Context<"handler", unknown>) => Promise<void>,
  decisions: Partial<Policy<"handler">> = {},
) {
  opened += 1;
  const queue = `held-${opened}`;
  const Work = command(`Hold${opened}`, { queue, schema: type<{ key: string }>(), key: ({ key }) => key });
  const post = posthorn({ service: queue, database: database.url, migrate: "auto", logger: silentLogger });
  post.queue(queue, { ...policy, ...decisions }).handle(Work, (_payload, context) => handler(context));
  await post.start();
  onTestFinished(() => post.stop({ graceMs: 0 }));
  return post.send(Work, { key: "k" });
}

test("a message that is moved out of its claim while a step runs records it by its new hold, and skips it in the next attempt", async () => {
  const journal: string[] = [];
  const receipt = await stage(
    async ({ step, attempt }) => {
      await step("before", () => void journal.push("before"));
      await step("slow", async () => {
        journal.push("slow");
        // Where order is kept a claim that is open for long is closed, and what runs of it goes on in `deferred`.
        await eventually(
          async () => Number(await admin.value("select count(*) from posthorn.deferred where token is not null")) === 1,
        );
      });
      if (attempt === 1) throw new Error("once more");
    },
    { ordering: { per: "key", whenDead: "park" } },
  );
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(journal).toEqual(["before", "slow"]);
  expect(await admin.value("select count(*) from posthorn.step")).toBe("0");
});

test("a record that comes to the database when its delivery has just been moved is made by the new hold", async () => {
  // Method: the function that records is replaced by one that waits until the message has left its claim, and then goes on with the old hold.
  const takes = "bigint, int, bigint, bigint, smallint, bigint, bigint, text, json";
  await admin.rows(`alter function posthorn.record_step(${takes}) rename to record_step_later`);
  await admin.rows(`create function posthorn.record_step(${takes}) returns json language plpgsql as $$ begin
    while not exists (select from posthorn.deferred d where d.subscription = $2 and d.message = $3 and d.token is not null) loop
      perform pg_sleep(0.01);
    end loop;
    return posthorn.record_step_later($1, $2, $3, $4, $5, $6, $7, $8, $9); end $$`);
  onTestFinished(async () => {
    await admin.rows(`drop function posthorn.record_step(${takes})`);
    await admin.rows(`alter function posthorn.record_step_later(${takes}) rename to record_step`);
  });
  const attempts: number[] = [];
  const receipt = await stage(
    async ({ step, attempt }) => {
      attempts.push(attempt);
      await step("charge", () => 1);
    },
    { ordering: { per: "key", whenDead: "park" } },
  );
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(attempts).toEqual([1]);
});

test("an ordered message that used a step and succeeded at once leaves its key free", async () => {
  const receipt = await stage(async ({ step }) => void (await step("only", () => 1)), {
    ordering: { per: "key", whenDead: "park" },
  });
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(await admin.rows("select key from posthorn.parked_key")).toEqual([]);
});

test("a connection that is lost while a step is recorded does not have the step done again: the record is tried once more", async () => {
  // Method: a trigger ends the connection of the first record, before or after it is written; a sequence counts, because no rollback takes it back.
  await admin.rows("create sequence records");
  await admin.rows(`create function cut() returns trigger language plpgsql as $$
    begin if nextval('records') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if; return new; end $$`);
  await admin.rows("create trigger cut before insert on posthorn.step for each row execute function cut()");
  onTestFinished(async () => void (await admin.rows("drop function cut cascade")));
  const journal: string[] = [];
  const receipt = await stage(async ({ step, attempt }) => {
    journal.push(`attempt ${attempt}`);
    await step("charge", () => void journal.push("charge"));
  });
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(journal).toEqual(["attempt 1", "charge"]);
});

test("a step that cannot be recorded while the database is away burns no attempt", async () => {
  // Method: as above; every record of the first run is cut, until the tries are spent.
  await admin.rows("create sequence cuts");
  await admin.rows(`create function cut() returns trigger language plpgsql as $$
    begin if nextval('cuts') <= 5 then perform pg_terminate_backend(pg_backend_pid()); end if; return new; end $$`);
  await admin.rows("create trigger cut before insert on posthorn.step for each row execute function cut()");
  onTestFinished(async () => void (await admin.rows("drop function cut cascade")));
  const attempts: number[] = [];
  const receipt = await stage(async ({ step, attempt }) => {
    attempts.push(attempt);
    await step("charge", () => 1);
  });
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(attempts).toEqual([1, 1]);
});

test("a message whose steps can never be recorded is not repeated for ever", async () => {
  await admin.rows(`create function cut() returns trigger language plpgsql as $$
    begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$`);
  await admin.rows("create trigger cut before insert on posthorn.step for each row execute function cut()");
  onTestFinished(async () => void (await admin.rows("drop function cut cascade")));
  let runs = 0;
  const receipt = await stage(
    async ({ step }) => {
      runs += 1;
      await step("charge", () => 1);
    },
    { retry: retry.none },
  );
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "dead" });
  expect(runs).toBe(limits.crashes);
});

test("after its visibility timeout a handler comes to no further step", async () => {
  const journal: string[] = [];
  let codes = "";
  const receipt = await stage(
    async ({ step, attempt, signal }) => {
      await step("first", () => void journal.push("first"));
      if (attempt > 1) return;
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await step("second", () => void journal.push("second")).catch((error: unknown) => {
        codes = error instanceof PosthornError ? error.code : String(error);
      });
    },
    { visibilityTimeoutMs: 2_000 },
  );
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(journal).toEqual(["first"]);
  expect(codes).toBe("PH_DEADLINE");
});

test("a message has so many steps and no more, over all its attempts", async () => {
  const codes: string[] = [];
  const receipt = await stage(async ({ step, attempt }) => {
    const one = async (name: string) => {
      try {
        await step(name, () => 1);
      } catch (error) {
        codes.push(error instanceof PosthornError ? error.code : String(error));
      }
    };
    const names = Array.from({ length: limits.steps }, (_, i) => `${i}`);
    if (attempt === 1) {
      // All but one, in portions.
      for (let from = 0; from < limits.steps - 1; from += 100)
        await Promise.all(names.slice(from, Math.min(from + 100, limits.steps - 1)).map(one));
      throw new Error("once more");
    }
    await one("the last");
    await one("one too many");
    await one("0");
  });
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(codes).toEqual(["PH_PAYLOAD_TOO_LARGE"]);
});
