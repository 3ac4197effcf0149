import fc from "fast-check";
import { afterAll, beforeAll, test } from "vitest";
import { type Engine, openEngine, type Session } from "../sql/engine.js";
import { seedOf } from "../sql/random.js";
import { runStep, shapeArbitrary, stepsArbitrary } from "./steps.js";
import { World } from "./world.js";

const runs = process.env.POSTHORN_LONG === "1" ? 100 : 50;

let engine: Engine;
const sessions: Session[] = [];
beforeAll(async () => {
  engine = await openEngine();
  await engine.admin.rows("create table effect (id bigint not null)");
  for (let i = 0; i < 4; i += 1) sessions.push(await engine.session());
});
afterAll(() => engine.close());

let queues = 0;

test(`in ${runs} runs of random acts every message is where a small model says, is delivered only when and to whom it may be, and ends once`, async () => {
  // Goal: whatever comes together, no message is lost, ends twice, or is ended by one who does not hold it; order per key, dedupe, cancelling,
  // redrives and every state are as documented.
  // Method: each act is done to the database and to a model of it in plain TypeScript, and all states are compared; in the end everything is
  // drained. Sessions do not race and time is forged in the tables, so the same seed makes the same run: POSTHORN_TEST_SEED.
  const property = fc.asyncProperty(shapeArbitrary, stepsArbitrary, async (shape, steps) => {
    queues += 1;
    const world = await World.open(engine, `model${queues}`, shape, sessions);
    try {
      for (const step of steps) {
        await runStep(world, step);
        await world.check();
      }
      await world.drain();
    } finally {
      await world.remove();
    }
  });
  await fc.assert(property, { seed: seedOf("model"), numRuns: runs });
}, 3_600_000);
