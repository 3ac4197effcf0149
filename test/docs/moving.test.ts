/** The guide about moving: its lines are lines that the command line takes. What they do is tested in test/move. */
import { expect, test } from "vitest";
import { parseLine } from "../../src/cli/parse.js";
import { readPage } from "./pages.js";

test("every line of posthorn in the guide about moving is one that the command line takes", () => {
  // They stand in steps, so they are indented.
  const ours = [...readPage("docs/guides/moving.md").text.matchAll(/^ +(posthorn .*)$/gm)].map(([, line = ""]) => line);
  expect(ours.map((line) => parseLine(line.split(" ").slice(1)).name)).toEqual(["move", "move", "migrate", "migrate"]);
});
