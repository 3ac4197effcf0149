import { expect, test } from "vitest";
import { cycles, wrongEdges } from "./rules.js";
import { parseSource, type Source, sourcesIn } from "./sources.js";

const parsed = (files: Readonly<Record<string, string>>): readonly Source[] =>
  Object.entries(files).map(([file, text]) => parseSource(file, text));

test("no file of src imports from a layer or package that its own layer may not import", () => {
  expect(wrongEdges(sourcesIn("src"))).toEqual([]);
});

test("no files of src import each other in a ring, not even for types", () => {
  expect(cycles(sourcesIn("src"))).toEqual([]);
});

test("the layer check finds a wrong edge in every form that an import can have", () => {
  const forms = [
    'import { a } from "../store/a.js";',
    'import type { A } from "../store/a.js";',
    'export { a } from "../store/a.js";',
    'export * from "../store/a.js";',
    'export type { A } from "../store/a.js";',
    'import "../store/a.js";',
    'const a = await import("../store/a.js");',
    'type A = import("../store/a.js").A;',
    'import { a } from "../../test/a.js";',
    'import { Pool } from "pg";',
  ];
  for (const form of forms) {
    const found = wrongEdges(parsed({ "src/core/x.ts": `\n${form}` }));
    expect(found, form).toHaveLength(1);
    expect(found[0]).toMatch(/^src\/core\/x\.ts:2 imports /);
  }
});

test("the layer check allows what the table allows and no more", () => {
  const cases: readonly (readonly [file: string, text: string, wrong: number])[] = [
    ["src/producer/x.ts", 'import type { A } from "../databases/a.js";', 0],
    ["src/producer/x.ts", 'import { a } from "../databases/a.js";', 1],
    ["src/databases/x.ts", 'import type { Pool } from "pg";', 0],
    ["src/databases/x.ts", 'const pg = await import("pg");', 0],
    ["src/databases/x.ts", 'import { Pool } from "pg";', 1],
    ["src/databases/x.ts", 'import { Client } from "mysql";', 1],
    ["src/databases/x.ts", "await import(name);", 1],
    ["src/cli/x.ts", "await import(name);", 0],
    ["src/cli/x.ts", 'import { createJiti } from "jiti";', 1],
    ["src/cli/x.ts", 'import { post } from "../index.js";', 1],
    ["src/core/x.ts", 'import { readFile } from "node:fs/promises";', 0],
    ["src/core/x.ts", 'import { a } from "./a.js";', 0],
    ["src/index.ts", 'export { a } from "./core/a.js";', 0],
    ["src/core/x.ts", 'import { a } from "../index.js";', 1],
    ["src/unknown/x.ts", 'import { a } from "../core/a.js";', 1],
  ];
  for (const [file, text, wrong] of cases)
    expect(wrongEdges(parsed({ [file]: text })), `${file}: ${text}`).toHaveLength(wrong);
});

test("the ring check finds a ring of three files that one type-only import closes", () => {
  const ring = parsed({
    "src/core/a.ts": 'import { b } from "./b.js";',
    "src/core/b.ts": 'export { c } from "./c.js";',
    "src/core/c.ts": 'import type { A } from "./a.js";',
    "src/core/d.ts": 'import { a } from "./a.js"; import { b } from "./b.js";',
  });
  expect(cycles(ring)).toEqual(["src/core/a.ts -> src/core/b.ts -> src/core/c.ts -> src/core/a.ts"]);
});
