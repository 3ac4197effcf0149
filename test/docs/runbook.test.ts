/** The runbook: it has a part for each alert, and its lines are lines that the command line takes. */
import { expect, test } from "vitest";
import { inWords } from "../../src/cli/commands/alerts.js";
import { parseLine } from "../../src/cli/parse.js";
import { readPage } from "./pages.js";

const { text } = readPage("docs/guides/runbook.md");

test("every alert has a part of its own in the runbook", () => {
  const parts = [...text.matchAll(/^### `(\w+)`/gm)].map(([, name]) => name);
  expect(parts.sort()).toEqual(Object.keys(inWords).sort());
});

test("every line of posthorn in the runbook is one that the command line takes", () => {
  const lines = [...text.matchAll(/(?:^|`)posthorn ([^`\n#]*)/gm)].map(([, line = ""]) => line.trim());
  expect(lines.length).toBeGreaterThan(25);
  for (const line of lines) {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "");
    expect(() => parseLine(words), line).not.toThrow();
  }
});
