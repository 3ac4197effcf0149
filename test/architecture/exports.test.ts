import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { entries, reachOf } from "./rules.js";
import { parseSource, root, sourcesIn } from "./sources.js";

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional: boolean }>>;
}

const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Manifest;
const codeEntries = Object.entries(manifest.exports).filter(([name]) => name !== "./package.json");

test("every entry of the package reaches only the packages on its list", () => {
  const sources = sourcesIn("src");
  const reached = codeEntries.map(([name, target]) => {
    if (typeof target === "string") throw new Error(`the entry ${name} has no types`);
    return [name, reachOf(target.default.replace(/^\.\/dist/, "src").replace(/\.js$/, ".ts"), sources)] as const;
  });
  for (const [name, reach] of reached) {
    expect(entries[name], `the entry ${name} has no list of packages`).toBeDefined();
    for (const when of ["atOnce", "later"] as const) {
      const unlisted = reach[when].filter((one) => !entries[name]?.[when].includes(one));
      expect(unlisted, `${name} reaches ${when}`).toEqual([]);
    }
  }
});

test("a package that is loaded at once is a dependency, and one that is loaded later is a peer that the user may leave out", () => {
  expect(Object.keys(manifest.dependencies ?? {})).toEqual(Object.values(entries).flatMap(({ atOnce }) => atOnce));
  for (const name of Object.values(entries).flatMap(({ later }) => later)) {
    expect(manifest.peerDependencies, name).toHaveProperty([name]);
    expect(manifest.peerDependenciesMeta[name], name).toEqual({ optional: true });
  }
});

test("the reach of an entry follows imports through files, tells at once from later, and leaves types out", () => {
  const sources = [
    parseSource("src/index.ts", 'export { a } from "./core/a.js"; import type { T } from "only-types";'),
    parseSource("src/core/a.ts", 'import "now/sub"; import("./b.js"); import("@later/one/sub");'),
    parseSource("src/core/b.ts", 'import "later-by-file"; import "node:fs";'),
  ];
  expect(reachOf("src/index.ts", sources)).toEqual({ atOnce: ["now"], later: ["@later/one", "later-by-file"] });
});
