import { expect, test } from "vitest";
import { spawnFixture } from "./processes.js";

const echo = new URL("./fixtures/echo.ts", import.meta.url);

test("a fixture process gets its arguments, talks by lines, and ends by the signal it is sent", async () => {
  const child = await spawnFixture(echo, { args: ["a", "b"] });
  expect(await child.line(/^ready/)).toBe("ready a b");
  child.say("one");
  child.say("two");
  expect(await child.line("heard two")).toBe("heard two");
  expect(await child.line(/^heard/)).toBe("heard one");
  child.kill("SIGTERM");
  expect(await child.exited).toEqual({ code: null, signal: "SIGTERM" });
  await expect(child.line("never")).rejects.toThrow("ended");
});
