/**
 * Goal: what a worker does to a message by its own end is none of the message's attempts: only its handler can fail.
 * Method: a policy without any retry, so that one counted attempt would be a dead letter.
 */
import { retry } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { CallOutside, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

for (const [reader, contract] of [
  ["outside", CallOutside],
  ["rows", WriteRow],
] as const) {
  test(`a message of the queue ${reader} whose workers are killed, and told to stop, in turn is in its first attempt all the time, and succeeds without any retry in its policy`, async () => {
    const receipt = await scene.post.send(contract, { n: 1, act: "hold" });
    for (const how of ["kill", "stop", "kill", "stop"]) {
      const worker = await scene.worker({ readers: [reader], retry: retry.none });
      await worker.line(`holds ${reader} 1 attempt 1`, patience);
      if (how === "kill") worker.kill();
      else worker.say("stop 0");
      await worker.exited;
    }
    const last = await scene.worker({ readers: [reader], retry: retry.none });
    await last.line(`holds ${reader} 1 attempt 1`, patience);
    const [waiting] = await scene.rows("select attempts, crashes, delivery, history from posthorn.deferred");
    expect(waiting).toMatchObject({
      attempts: 0,
      crashes: 2,
      delivery: 5,
      history: [
        { outcome: "crashed", attempt: 1 },
        { outcome: "crashed", attempt: 1 },
      ],
    });
    last.say("go 1");
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  });
}
