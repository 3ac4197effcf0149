/**
 * Steps from end to end, on a real server and on PGlite. Goal: what a handler did under a name is not done again by a later run of the message,
 * and nothing is left behind. Method: handlers write into a journal in this process, which outlives their runs.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Executor } from "../../src/core/database.js";
import { limits } from "../../src/core/limits.js";
import { silentLogger } from "../../src/core/logger.js";
import {
  type Context,
  command,
  type DatabaseInput,
  type Policy,
  PosthornError,
  posthorn,
  retry,
  type Step,
  type,
} from "../../src/index.js";
import { stepsPass } from "../../src/maintenance/steps.js";
import { discard, redrive } from "../../src/store/operate.js";
import { openSession } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { createEmbedded, createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

const policy = {
  retry: retry.fixed({ attempts: 2, delayMs: 1 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 60_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 60_000 },
} as const satisfies Policy;

type Given = Context<"handler", unknown>;
type Handler = (context: Given, payload: { readonly n: number }) => unknown;

interface Home {
  readonly input: DatabaseInput;
  readonly eye: Executor;
  close(): Promise<void>;
}

async function onServer(): Promise<Home> {
  const { url, drop } = await createDatabase();
  const eye = await openSession(url);
  return {
    input: url,
    eye,
    close: async () => {
      await eye.close();
      await drop();
    },
  };
}

async function onPglite(): Promise<Home> {
  const pglite = await createPglite();
  const eye: Executor = { query: (text, params = []) => pglite.query(text, [...params]) };
  return { input: pglite, eye, close: () => pglite.close() };
}

let opened = 0;

/** A queue of its own whose handler is given here. */
async function stage(home: Home, handler: Handler, decisions: Partial<Policy<"handler">> = {}) {
  opened += 1;
  const queue = `work-${opened}`;
  const Work = command(`DoWork${opened}`, {
    queue,
    schema: type<{ n: number; key?: string }>(),
    key: ({ key }) => key ?? "k",
  });
  const post = posthorn({ service: queue, database: home.input, migrate: "auto", logger: silentLogger });
  post.queue(queue, { ...policy, ...decisions }).handle(Work, async ({ n }, context) => {
    await handler(context, { n });
  });
  await post.start();
  onTestFinished(() => post.stop({ graceMs: 0 }));
  const settled = async () => (await post.send(Work, { n: 1 })).settled({ withinMs: 60_000 });
  return { queue, Work, post, settled };
}

const stepsIn = async ({ eye }: Home): Promise<readonly unknown[]> =>
  (await eye.query("select name, result::text as result from posthorn.step order by name")).rows;

/** What a step was refused with. */
async function refused(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return error instanceof PosthornError ? error.code : String(error);
  }
  return "was not refused";
}

describe.each([
  ["on a server", onServer],
  ["on PGlite", onPglite],
])("%s", (_where, open) => {
  let home: Home;
  beforeAll(async () => {
    home = await open();
  });
  afterAll(() => home.close());

  test("a step that is done is skipped by the next attempt, which gets its result, and nothing is left when the message has succeeded", async () => {
    const journal: string[] = [];
    const { settled } = await stage(home, async ({ step, attempt, idempotencyKey }) => {
      const paid = await step("charge", async () => {
        journal.push(`charge ${idempotencyKey("charge")}`);
        return { id: "ch_1", cents: 1_999 };
      });
      const none = await step("note", () => undefined);
      const nothing = await step("look", () => null);
      const at = await step("date", () => ({ at: new Date(0), gone: undefined }));
      journal.push(`got ${JSON.stringify([paid, none === undefined, nothing, at])}`);
      if (attempt === 1) throw new Error("the first time it fails");
      await step("mail", () => void journal.push("mail"));
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    const got = 'got [{"id":"ch_1","cents":1999},true,null,{"at":"1970-01-01T00:00:00.000Z"}]';
    expect(journal).toEqual([expect.stringMatching(/^charge \w{32}$/), got, got, "mail"]);
    expect(await stepsIn(home)).toEqual([]);
  });

  test("a step whose function throws is not recorded: the error comes out, and the next attempt runs it again", async () => {
    const journal: string[] = [];
    const { settled } = await stage(home, async ({ step, attempt }) => {
      journal.push(`begin ${attempt}`);
      await step("first", () => void journal.push("first"));
      await step("second", () => {
        journal.push("second");
        if (attempt === 1) throw new TypeError("the second step fails");
      });
    });
    const status = await settled();
    expect(status.state).toBe("succeeded");
    expect(journal).toEqual(["begin 1", "first", "second", "begin 2", "second"]);
  });

  test("a dead letter keeps its steps, and a redrive goes on behind the last of them", async () => {
    let broken = true;
    const journal: string[] = [];
    const { queue, settled, post } = await stage(home, async ({ step }) => {
      await step("charge", () => void journal.push("charge"));
      await step("ship", () => {
        if (broken) throw new Error("no truck");
        journal.push("ship");
      });
    });
    expect(await settled()).toMatchObject({ state: "dead" });
    await stepsPass(home.eye, 0);
    expect(await stepsIn(home)).toEqual([{ name: "charge", result: null }]);
    broken = false;
    await redrive(home.eye, { list: "dead-letters", subscription: queue }, "the test", 10);
    await eventually(() => journal.includes("ship"), { withinMs: 60_000 });
    await post.untilIdle();
    expect(journal).toEqual(["charge", "ship"]);
    expect(await stepsIn(home)).toEqual([]);
  });

  test("steps of a message that ended without a run that used them are removed by maintenance", async () => {
    const { queue, settled } = await stage(home, async ({ step }) => {
      await step("charge", () => 1);
      await step("mail", () => 2);
      throw new Error("it always fails");
    });
    expect(await settled()).toMatchObject({ state: "dead" });
    await discard(home.eye, { list: "dead-letters", subscription: queue }, "the test", "done by hand", 10);
    expect(await stepsIn(home)).toHaveLength(2);
    await stepsPass(home.eye, 0);
    expect(await stepsIn(home)).toEqual([]);
  });

  test("steps run side by side, and of those that fail together with others only they are run again", async () => {
    const journal: string[] = [];
    const { settled } = await stage(home, async ({ step, attempt }) => {
      let release = (): void => undefined;
      const failed = new Promise<void>((resolve) => {
        release = resolve;
      });
      const first = step("a", () => {
        journal.push("a");
        if (attempt === 1) throw new Error("a fails at once");
        return "a";
      });
      first.catch(release);
      const others = ["b", "c"].map((name) =>
        step(name, async () => {
          journal.push(name);
          await failed;
          // Long after the handler has failed: its attempt waits for what is under way.
          for (let turn = 0; turn < 20; turn += 1) await nextTurn();
          return name;
        }),
      );
      journal.push((await Promise.all([first, ...others])).join(""));
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    expect(journal).toEqual(["a", "b", "c", "a", "abc"]);
    expect(await stepsIn(home)).toEqual([]);
  });

  test("a step inside a step is recorded by itself", async () => {
    const journal: string[] = [];
    const { settled } = await stage(home, async ({ step, attempt }) => {
      const sum = await step("outer", async () => {
        const inner = await step("inner", () => journal.push("inner"));
        if (attempt === 1) throw new Error("the outer one fails");
        return inner + 1;
      });
      journal.push(`sum ${sum}`);
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    expect(journal).toEqual(["inner", "sum 2"]);
  });

  test("a name that is used twice in a run, and a bad name, function or result is refused with a typed error", async () => {
    const codes: Record<string, string> = {};
    const { settled } = await stage(home, async ({ step, attempt }) => {
      const untyped = step as (name: unknown, fn: unknown) => Promise<unknown>;
      await step("once", () => 1);
      codes[`twice ${attempt}`] = await refused(step("once", () => 2));
      const slow = step("together", async () => 1);
      codes["twice at once"] = await refused(step("together", async () => 2));
      await slow;
      for (const name of [
        "",
        "  ",
        7,
        undefined,
        "a\u0000b",
        "a\nb",
        "\ud800",
        "x".repeat(limits.stepNameLength + 1),
      ]) {
        codes[`name ${JSON.stringify(name)?.slice(0, 12)}`] = await refused(untyped(name, () => 1));
      }
      codes["no function"] = await refused(untyped("fn", 1));
      codes.bigint = await refused(untyped("bigint", () => 1n));
      codes.map = await refused(untyped("map", () => ({ at: new Map() })));
      codes.large = await refused(step("large", () => "x".repeat(limits.stepResultBytes)));
      await step("x".repeat(limits.stepNameLength), () => "x".repeat(limits.stepResultBytes - 2));
      // After a failure the name is free again: nothing was recorded under it.
      if (attempt === 1) codes.again = await refused(step("again", () => Promise.reject(new Error("no"))));
      codes["again, and again"] = await step("again", () => "yes");
      if (attempt === 1) throw new Error("once more");
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    const {
      "twice 1": first,
      "twice 2": second,
      "twice at once": together,
      again,
      "again, and again": yes,
      bigint,
      map,
      large,
      ...names
    } = codes;
    expect([first, second, together]).toEqual(["PH_STEP_TWICE", "PH_STEP_TWICE", "PH_STEP_TWICE"]);
    expect([bigint, map, large]).toEqual(["PH_PAYLOAD_NOT_JSON", "PH_PAYLOAD_NOT_JSON", "PH_PAYLOAD_TOO_LARGE"]);
    expect([again, yes]).toEqual(["Error: no", "yes"]);
    expect(names["no function"]).toBe("PH_OPTION_INVALID");
    expect(
      new Set(
        Object.entries(names)
          .filter(([name]) => name.startsWith("name"))
          .map(([, code]) => code),
      ),
    ).toEqual(new Set(["PH_NAME_INVALID"]));
  });

  test.each(["transaction", "at-most-once"] as const)(
    "a step in %s mode is refused with the reason, and its function does not run",
    async (idempotency) => {
      const journal: unknown[] = [];
      const name = `refusing-${idempotency}`;
      const Work = command(`Refuse${idempotency.length}`, { queue: name, schema: type<object>() });
      const post = posthorn({ service: name, database: home.input, migrate: "auto", logger: silentLogger });
      const handler = async (_payload: object, context: object) => {
        const { step } = context as { step: Step };
        await step("charge", () => void journal.push("ran")).catch((error: PosthornError) => journal.push(error));
      };
      const decisions = { ...policy, retry: retry.none };
      if (idempotency === "transaction") post.queue(name, { ...decisions, idempotency }).handle(Work, handler);
      else post.queue(name, { ...decisions, idempotency }).handle(Work, handler);
      await post.start();
      onTestFinished(() => post.stop({ graceMs: 0 }));
      await (await post.send(Work, {})).settled({ withinMs: 60_000 });
      expect(journal).toEqual([expect.objectContaining({ code: "PH_STEP_REFUSED", facts: { idempotency } })]);
    },
  );

  test("a step that its handler did not await is waited for before the message succeeds", async () => {
    const journal: string[] = [];
    const { settled } = await stage(home, ({ step }) => {
      void step("floating", async () => {
        for (let turn = 0; turn < 20; turn += 1) await nextTurn();
        journal.push("floating");
      }).then(() => journal.push("recorded"));
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    expect(journal).toEqual(["floating", "recorded"]);
    expect(await stepsIn(home)).toEqual([]);
  });

  test("a step that is called after its handler has ended is refused, and its function does not run", async () => {
    const journal: string[] = [];
    let late: Step | undefined;
    const { settled } = await stage(home, ({ step }) => {
      late = step;
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    expect(late).toBeDefined();
    if (late !== undefined) expect(await refused(late("late", () => journal.push("late")))).toBe("PH_STEP_AFTER_END");
    expect(journal).toEqual([]);
  });

  test("what a handler says in a step is refused, because it would be lost when the step is skipped; behind the step it is said once", async () => {
    const codes: string[] = [];
    const heard: string[] = [];
    const Tell = command(`TellAbout${opened}`, { queue: `told-${opened}`, schema: type<{ text: string }>() });
    const hearing = posthorn({
      service: `told-${opened}`,
      database: home.input,
      migrate: "auto",
      logger: silentLogger,
    });
    hearing.queue(`told-${opened}`, policy).handle(Tell, ({ text }) => void heard.push(text));
    await hearing.start();
    onTestFinished(() => hearing.stop({ graceMs: 0 }));
    const { settled } = await stage(home, async ({ step, send, attempt }) => {
      await step("charge", async () => {
        await nextTurn();
        codes.push(await refused((async () => send(Tell, { text: "in a step" }))()));
      });
      send(Tell, { text: "behind it" });
      if (attempt === 1) throw new Error("once more");
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    await hearing.untilIdle();
    expect([codes, heard]).toEqual([["PH_STEP_REFUSED"], ["behind it"]]);
  });

  test("a message on its first delivery reads no steps, and one that is delivered again reads them once", async () => {
    // Method: the function that reads counts its calls in a sequence, which no rollback takes back.
    const source = `select pg_get_functiondef('posthorn.steps_of(int, bigint)'::regprocedure) as text`;
    const before = String((await home.eye.query<{ text: string }>(source)).rows[0]?.text);
    await home.eye.query("create sequence if not exists reads");
    await home.eye.query(before.replace(/begin/i, "begin perform nextval('reads');"));
    onTestFinished(async () => void (await home.eye.query(before)));
    const reads = async () =>
      Number(
        (
          await home.eye.query<{ n: string }>(
            "select case when is_called then last_value else 0 end::text as n from reads",
          )
        ).rows[0]?.n,
      );
    const seen: number[] = [];
    const { settled } = await stage(home, async ({ step, attempt }) => {
      await Promise.all([step("a", () => 1), step("b", () => 2)]);
      await step("c", () => 3);
      seen.push(await reads());
      if (attempt === 1) throw new Error("once more");
    });
    expect(await settled()).toMatchObject({ state: "succeeded" });
    expect(seen).toEqual([0, 1]);
  });
});

test("an embedded database that is stopped between two steps and opened again goes on with the second", async () => {
  const { url, remove } = await createEmbedded();
  onTestFinished(remove);
  const Work = command("DoEmbeddedWork", { queue: "embedded", schema: type<object>() });
  const journal: string[] = [];
  const life = async (between: () => Promise<unknown>) => {
    const post = posthorn({ service: "embedded", database: url, logger: silentLogger });
    post.queue("embedded", policy).handle(Work, async (_payload, { step }) => {
      await step("first", () => void journal.push("first"));
      await between();
      await step("second", () => void journal.push("second"));
    });
    await post.start();
    return post;
  };
  let reached = false;
  const first = await life(() => {
    reached = true;
    return new Promise(() => undefined);
  });
  await first.send(Work, {});
  await eventually(() => reached, { withinMs: 60_000 });
  await first.stop({ graceMs: 0 });
  const second = await life(async () => undefined);
  await second.untilIdle();
  await second.stop();
  expect(journal).toEqual(["first", "second"]);
});
