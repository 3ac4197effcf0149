import { expect, test } from "vitest";
import { parseSource, sourcesIn } from "./sources.js";

const fileLimit = 500;
const functionLimit = 70;
const folders = ["src", "test", "bench", "examples", "scripts"];

test(`no file is longer than ${fileLimit} lines`, () => {
  const long = sourcesIn(...folders)
    .filter(({ file, lines }) => lines > fileLimit && !file.endsWith(".gen.ts"))
    .map(({ file, lines }) => `${file}: ${lines} lines`);
  expect(long).toEqual([]);
});

test(`no function is longer than ${functionLimit} lines`, () => {
  const long = sourcesIn(...folders).flatMap(({ file, functions }) =>
    functions
      .filter(({ lines }) => lines > functionLimit)
      .map(({ name, line, lines }) => `${file}:${line} ${name}: ${lines} lines`),
  );
  expect(long).toEqual([]);
});

test("the size check counts the lines of functions of every form, and passes over the callback of describe", () => {
  const body = "{\n\n}";
  const text = [
    `function a() ${body}`,
    `const b = () => ${body};`,
    `class C { d() ${body} }`,
    `test("e", async () => ${body});`,
    `describe("f", () => ${body});`,
    `describe.each([1])("g", () => ${body});`,
    "",
  ].join("\n");
  const { lines, functions } = parseSource("src/core/x.ts", text);
  expect(lines).toBe(18);
  expect(functions).toEqual([
    { name: "a", line: 1, lines: 3 },
    { name: "b", line: 4, lines: 3 },
    { name: "d", line: 7, lines: 3 },
    { name: "(without a name)", line: 10, lines: 3 },
  ]);
});
