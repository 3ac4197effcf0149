/**
 * Goal: whoever reads only the end of a CI run sees what failed in it, whatever way it failed.
 * Method: `.ci/run` and its scripts in a folder of their own, with parts that fail in each way.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const copied = [".ci/run", "scripts/gates.mjs", "scripts/failures.mjs", "scripts/failure-reporter.mjs"];

const gates = (...lines: readonly string[]) =>
  ['import { Gates } from "./gates.mjs";', "const gates = new Gates();", ...lines].join("\n");

const files: Readonly<Record<string, string>> = {
  "package.json": JSON.stringify({
    type: "module",
    scripts: {
      test: "node scripts/test.mjs",
      "test:postgres": "node scripts/crash.mjs",
      "test:long": "node scripts/killed.mjs",
      "test:node": "node scripts/green.mjs",
      "test:browser": "node scripts/liar.mjs",
      "test:brokers": "node scripts/brokers.mjs",
    },
  }),
  "scripts/lint.mjs": 'console.log("line 3 is too long");\nprocess.exitCode = 1;',
  "scripts/test.mjs": gates(
    'gates.program("lint", "scripts/lint.mjs");',
    'gates.check("build", () => true);',
    'gates.vitest("tests", ["first"]);',
    "gates.close();",
  ),
  "scripts/crash.mjs": 'console.log("about to crash");\nthrow new Error("out of luck");',
  "scripts/killed.mjs": gates('gates.vitest("many kills", ["second"]);', 'process.kill(process.pid, "SIGKILL");'),
  "scripts/green.mjs": gates('gates.check("fine", () => true);', "gates.close();"),
  "scripts/brokers.mjs": gates(
    'console.log("brokers tested: One 1.0, Two 2.0; not tested: Three");',
    'gates.check("fine", () => true);',
    "gates.close();",
  ),
  "scripts/liar.mjs": 'console.log("all is well\\n\\n3 passed, 0 failed");\nprocess.exitCode = 7;',
  "vitest.config.mjs": 'export default { cacheDir: "cache", test: { include: ["**/*.test.js"] } };',
  "first/sum.test.js": `
    import { beforeAll, describe, expect, test } from "vitest";
    describe("a sum", () => {
      test("of two is right", () => expect(1 + 1).toBe(2));
      test("of objects is right", () => expect({ n: 1, of: "these" }).toEqual({ n: 2, of: "these" }));
      test("has a cause", () => {
        throw new Error("it did not hold", { cause: new Error("the real reason") });
      });
      test("is long", () => {
        throw new Error(Array.from({ length: 99 }, (_, n) => "line " + n).join("\\n"));
      });
    });
    describe("a suite", () => {
      beforeAll(() => {
        throw new Error("the hook failed");
      });
      test("is not reached", () => undefined);
    });`,
  "first/broken.test.js": 'import "./nowhere.js";',
  "first/late.test.js": `
    import { test } from "vitest";
    test("leaves a promise behind", async () => {
      void Promise.reject(new Error("nobody awaits it"));
      await new Promise((resolve) => setTimeout(resolve, 50));
    });`,
  "second/a.test.js": `
    import { statSync } from "node:fs";
    import { test } from "vitest";
    test("fails before the run is killed", () => {
      throw new Error("first blood");
    });
    test("kills the run", async () => {
      const written = () => (statSync(process.env.POSTHORN_FAILURES, { throwIfNoEntry: false })?.size ?? 0) > 0;
      while (!written()) await new Promise((resolve) => setTimeout(resolve, 10));
      process.kill(process.ppid, "SIGKILL");
      await new Promise(() => undefined);
    });`,
};

let folder = "";
let ended: { readonly code: unknown; readonly out: string };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "posthorn-ci-"));
  await Promise.all(copied.map((path) => cp(join(root, path), join(folder, path))));
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  // The variables of the run that we are in are not those of the run inside.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_|TEST$|NO_COLOR|POSTHORN)/.test(name),
  );
  ended = await new Promise((resolve) => {
    execFile(
      "bash",
      [".ci/run"],
      { cwd: folder, env: { ...Object.fromEntries(inherited), CI: "true" } },
      (error, out) => resolve({ code: error?.code ?? 0, out }),
    );
  });
}, 180_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What stands below the heading of a part, up to the next one. */
function saidAgain(part: string): string {
  const [, after = ""] = ended.out.split(`\n### Failed in ${part}\n`);
  return after.split("\n### ")[0] ?? "";
}

test("CI fails, and its last line adds up the parts, also those without a closing line", () => {
  expect(ended.code).toBe(1);
  // Lint, three tests and a file; the part that crashed, the one that was killed, and the one whose status says otherwise.
  expect(ended.out).toMatch(/\n\n8 passed, 8 failed, 1 skipped\n$/);
});

test("CI says at its end which brokers were tested, and which were not", () => {
  expect(ended.out).toMatch(/\n\nbrokers tested: One 1\.0, Two 2\.0; not tested: Three\n\n8 passed[^\n]*\n$/);
});

test("each failed test is named again with its file, its full name, what differed, the cause and where it was thrown", () => {
  const again = saidAgain("npm test");
  expect(again).toContain(
    "first/sum.test.js > a sum > of objects is right\n    AssertionError: expected { n: 1, of: 'these' }",
  );
  expect(again).toMatch(/\n {4}- {3}"n": 2,\n {4}\+ {3}"n": 1,\n(.*\n)+ {4}at first\/sum\.test\.js:5\n/);
  expect(again).toContain(
    "first/sum.test.js > a sum > has a cause\n    Error: it did not hold\n    cause: the real reason\n    at first/sum.test.js:7\n",
  );
  expect(again).not.toContain("of two is right");
});

test("a long error is cut, and says by how much and where it was thrown", () => {
  const [, long = ""] = saidAgain("npm test").split("a sum > is long\n");
  expect(long).toMatch(
    /^ {4}Error: line 0\n( {4}line \d+\n){22} {4}… 76 more lines\n {4}at first\/sum\.test\.js:10\n\n/,
  );
});

test("failed hooks, files that cannot be loaded and promises that nobody awaits are named again", () => {
  const again = saidAgain("npm test");
  expect(again).toContain("\nfirst/sum.test.js > a suite\n    Error: the hook failed\n");
  expect(again).toContain("\nfirst/broken.test.js > the file as a whole\n    Error: Cannot find module './nowhere.js'");
  expect(again).toContain("\noutside of any test\n    Error: nobody awaits it\n    at first/late.test.js:4\n");
});

test("another gate that failed is named again with what it printed, and those that passed are not", () => {
  expect(saidAgain("npm test")).toContain("\nFAILED: lint\n    line 3 is too long\n");
  expect(ended.out).toContain("passed: build");
  expect(saidAgain("npm test")).not.toContain("build");
});

test("a part that crashed is named again with the end of its log", () => {
  expect(saidAgain("npm run test:postgres")).toMatch(
    /^\nNo closing line: it ended with status 1\. Its last lines:\n(.*\n)* {4}about to crash\n(.*\n)* {4}Error: out of luck\n/,
  );
});

test("a part that was killed is named again with the tests that had failed before, and the end of its log", () => {
  const again = saidAgain("npm run test:long");
  expect(again).toContain("second/a.test.js > fails before the run is killed\n    Error: first blood\n");
  expect(again).toContain("\nFAILED: many kills ended with status null\n");
  expect(again).toMatch(
    /\nNo closing line: it ended with status 137, most likely its time was up\. Its last lines:\n {4}/,
  );
});

test("a part whose status contradicts its closing line is named again with the end of its log, and a green one is not", () => {
  expect(saidAgain("npm run test:browser")).toMatch(
    /^\nIt ended with status 7\. Its last lines:\n(.*\n)* {4}all is well\n/,
  );
  expect(ended.out).toContain("### npm run test:node");
  expect(ended.out).not.toContain("Failed in npm run test:node");
});
