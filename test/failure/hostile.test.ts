import type { HistoryEntry, Receipt } from "posthorn";
import { retry } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import type { FixtureProcess } from "../support/processes.js";
import { effectsOf, holds, notEndedOnce } from "./account.js";
import { CallOutside, FetchAnswer, FireOnce, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };
/** A second attempt at once: what fails twice is a dead letter. */
const settings = { retry: retry.fixed({ attempts: 2, delayMs: 1 }), concurrency: 2 };

let scene: Scene;
let worker: FixtureProcess;
let number = 0;
beforeAll(async () => {
  scene = await openScene();
  worker = await scene.worker(settings);
});

const complaints = () => worker.lines.filter((line) => /^(unhandled|uncaught)/.test(line));

type Queue = "rows" | "outside" | "once";

function say(queue: Queue, act: string): Promise<Receipt> {
  number += 1;
  const work = { n: number, act };
  if (queue === "rows") return scene.post.send(WriteRow, work);
  return queue === "once" ? scene.post.send(FireOnce, work) : scene.post.send(CallOutside, work);
}

/** How it ended, and the errors of its attempts. */
async function endOf(receipt: Receipt): Promise<{ state: string; errors: (HistoryEntry["error"] | undefined)[] }> {
  const { state, history } = await receipt.settled(patience);
  return { state, errors: history.map(({ error }) => error) };
}

/** The worker still works on both queues, no slot is lost, and nobody has complained. */
async function worksOn(): Promise<void> {
  const receipts = [await say("rows", "write"), await say("outside", "write"), await say("outside", "write")];
  for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  await scene.quiet();
  expect(complaints()).toEqual([]);
  expect(await notEndedOnce(scene)).toEqual([]);
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 1 });
}

const cannotBeShown = { name: "NonError", message: expect.stringMatching(/cannot be shown/) };

const thrown: readonly (readonly [act: string, error: object])[] = [
  ["throw undefined", { name: "NonError", message: expect.stringMatching(/undefined/) }],
  ["throw null", { name: "NonError", message: expect.stringMatching(/null/) }],
  ["throw a string", { name: "NonError", message: expect.stringMatching(/just text/) }],
  ["throw an object", { name: "NonError", message: expect.stringMatching(/"status":500/) }],
  ["throw a proxy", cannotBeShown],
  ["reject with a proxy", cannotBeShown],
  ["throw hostile getters", cannotBeShown],
  ["return a hostile thenable", { name: "Error", message: expect.stringMatching(/getter of then/) }],
  ["throw a lost claim", { name: "ClaimLostError", message: expect.stringMatching(/handler's own/) }],
  [
    "throw a lost database",
    { name: "DatabaseUnavailableError", message: expect.stringMatching(/of another database/) },
  ],
];

for (const queue of ["outside", "rows"] as const) {
  test.for(thrown)(
    `a handler of the queue ${queue} that does this ends as a dead letter with a readable error: %s`,
    async ([act, error]) => {
      expect(await endOf(await say(queue, act))).toEqual({
        state: "dead",
        errors: [expect.objectContaining(error), expect.objectContaining(error)],
      });
      await worksOn();
    },
  );
}

test.for(thrown)(
  "a handler of an at-most-once queue that does this ends as a dead letter at once: %s",
  async ([act, error]) => {
    expect(await endOf(await say("once", act))).toEqual({ state: "dead", errors: [expect.objectContaining(error)] });
    await worksOn();
  },
);

test("a handler that owes a result and returns nothing ends as a dead letter that says so", async () => {
  number += 1;
  const { state, errors } = await endOf(await scene.post.send(FetchAnswer, { n: number }));
  expect(state).toBe("dead");
  expect(errors).toHaveLength(2);
  expect(errors[0]).toMatchObject({
    name: "ContractViolationError",
    message: expect.stringMatching(/result of FetchAnswer/),
  });
  await worksOn();
});

test("a handler that owes nothing may return anything", async () => {
  expect(await endOf(await say("outside", "return a number"))).toEqual({ state: "succeeded", errors: [] });
  await worksOn();
});

describe("with a short visibility timeout", () => {
  const visibilityTimeoutMs = 1_500;
  const replaceWorker = async (by: typeof settings & { readonly visibilityTimeoutMs?: number }) => {
    worker.say("stop");
    await worker.exited;
    expect(complaints()).toEqual([]);
    worker = await scene.worker(by);
  };
  beforeAll(() => replaceWorker({ ...settings, visibilityTimeoutMs }));
  afterAll(() => replaceWorker(settings));

  for (const [queue, act] of [
    ["outside", "hang"],
    ["rows", "hang"],
    ["rows", "hang in a statement"],
  ] as const) {
    test(`a handler of the queue ${queue} that never returns (${act}) gets its signal at the visibility timeout, frees its slot, and its message is delivered again by the policy`, async () => {
      const receipts = [await say(queue, act), await say(queue, act)];
      for (const receipt of receipts) {
        const { state, errors } = await endOf(receipt);
        expect(state).toBe("dead");
        expect(errors).toHaveLength(2);
        for (const error of errors) {
          expect(error).toMatchObject({
            code: "PH_DEADLINE",
            message: expect.stringMatching(`${visibilityTimeoutMs} ms`),
          });
        }
      }
      for (const n of [number - 1, number]) await worker.line(`signal ${n} PH_DEADLINE`);
      await worksOn();
    });
  }
});

test("a handler that leaves a statement un-awaited commits nothing, and the history says so", async () => {
  const { state, errors } = await endOf(await say("rows", "leave a statement"));
  expect(state).toBe("dead");
  expect(errors).toEqual([0, 1].map(() => expect.objectContaining({ code: "PH_STATEMENT_NOT_AWAITED" })));
  await worksOn();
});

test("a use of tx after its handler has returned is refused and stores nothing", async () => {
  expect(await endOf(await say("rows", "use tx later"))).toEqual({ state: "succeeded", errors: [] });
  await worker.line("later: PH_TRANSACTION_ENDED");
  expect((await effectsOf(scene, "stray")).size).toBe(0);
  await worksOn();
});

for (const act of ["commit", "commit in disguise", "swallow an error", "commit and swallow"]) {
  test(`a handler that tries to end its own transaction leaves no effect, and a readable error: ${act}`, async () => {
    const { state, errors } = await endOf(await say("rows", act));
    expect(state).toBe("dead");
    expect(errors).toHaveLength(2);
    expect(errors[0]?.message.length).toBeGreaterThan(10);
    if (act === "commit") expect(errors[0]).toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    expect((await effectsOf(scene, "rows")).get(number)).toBeUndefined();
    await worksOn();
  });
}

test("a send after the handler has ended is refused, and the message was not written", async () => {
  for (const queue of ["rows", "outside"] as const) {
    expect(await endOf(await say(queue, "send later"))).toEqual({ state: "succeeded", errors: [] });
    await worker.line("later: PH_SAY_AFTER_END");
  }
  await worksOn();
  expect((await effectsOf(scene, "outside")).get(-1)).toBeUndefined();
});

test(`a handler that says more than ${limits.sayMessages} messages fails, and none of them goes out`, async () => {
  for (const queue of ["rows", "outside"] as const) {
    const { state, errors } = await endOf(await say(queue, "flood"));
    expect(state).toBe("dead");
    expect(errors[0]).toMatchObject({
      code: "PH_PAYLOAD_TOO_LARGE",
      message: expect.stringMatching(`${limits.sayMessages}`),
    });
  }
  await worksOn();
  expect(await scene.count("select count(*) from posthorn.message_1 where (payload ->> 'n')::int = -2")).toBe(0);
});
