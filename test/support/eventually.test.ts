import { expect, test } from "vitest";
import { eventually } from "./eventually.js";

test("eventually returns the first value that is neither false nor undefined and passes over errors before it", async () => {
  const outcomes = [
    () => {
      throw new Error("not yet");
    },
    () => false as const,
    () => undefined,
    () => "done",
  ];
  expect(await eventually(() => outcomes.shift()?.(), { everyMs: 1 })).toBe("done");
});

test("eventually gives up after its time with the last error as the cause", async () => {
  const check = () => {
    throw new Error("never");
  };
  await expect(eventually(check, { withinMs: 5, everyMs: 1 })).rejects.toMatchObject({
    message: "it did not hold within 5 ms",
    cause: { message: "never" },
  });
});
