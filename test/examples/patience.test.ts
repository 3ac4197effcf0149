import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { withPatience } from "../../examples/shop/features/patience.js";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

const silence = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

// With `AbortSignal.any([signal, AbortSignal.timeout(ms)])` it waited for ever on Node 20: nothing held the timeout.
test("a wait for somebody who does not answer ends after its time, also when garbage was collected meanwhile", async () => {
  const asked = withPatience(50, new AbortController().signal, silence);
  collectGarbage();
  await expect(asked).rejects.toThrow("There was no answer within 50 ms.");
});

test("a wait ends with the reason of the handler's signal, whether it fires before or meanwhile, and an answer is passed on", async () => {
  const handler = new AbortController();
  const asked = withPatience(600_000, handler.signal, silence);
  handler.abort(new Error("The worker stops."));
  await expect(asked).rejects.toThrow("The worker stops.");
  const late = withPatience(600_000, handler.signal, async (signal) => signal.throwIfAborted());
  await expect(late).rejects.toThrow("The worker stops.");
  expect(await withPatience(600_000, new AbortController().signal, async () => "yes")).toBe("yes");
});
