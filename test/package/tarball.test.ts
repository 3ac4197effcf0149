import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseSource } from "../architecture/sources.js";
import { shared } from "../support/shared.js";
import { createProject, install, type Project } from "./installed.js";

let project: Project;

beforeAll(async () => {
  project = await createProject();
  await install(project, "npm install posthorn");
}, 180_000);
afterAll(() => project.remove());

test("the packed package holds the built code, the SQL, the licence and the README, and nothing else", async () => {
  const { stdout } = await promisify(execFile)("tar", ["-tzf", await shared("tarball")]);
  const files = stdout.trim().split("\n");
  const allowed =
    /^package\/(dist\/.+\.(js|js\.map|d\.ts)|sql\/.+\.sql|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/;
  expect(files.filter((file) => !allowed.test(file))).toEqual([]);
  for (const file of ["dist/index.js", "dist/index.d.ts", "LICENSE", "README.md"])
    expect(files).toContain(`package/${file}`);
});

test("installing posthorn alone brings one other package, which brings none, and it loads with these", async () => {
  const installed = await readdir(join(project.folder, "node_modules"));
  expect(installed.filter((name) => !name.startsWith("."))).toEqual(["croner", "posthorn"]);
  await project.write("load.mjs", `import * as all from "posthorn"; console.log(typeof all.posthorn);`);
  expect((await project.node("load.mjs")).stdout).toBe("function\n");
});

test("the declarations of the package name no other package, so they compile in a project without any", async () => {
  const outside: string[] = [];
  const seen = new Set<string>();
  const visit = async (file: string): Promise<void> => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = await readFile(join(project.folder, "node_modules/posthorn", file), "utf8");
    for (const one of parseSource(file, text).imports) {
      if (one.file === undefined) outside.push(`${file}: ${one.specifier}`);
      else await visit(one.file.replace(/\.ts$/, ".d.ts"));
    }
  };
  await visit("dist/index.d.ts");
  expect(outside).toEqual([]);
  await project.write("types.mts", `import * as all from "posthorn";\nexport const everything = all;\n`);
  expect(await project.compile("--noEmit", "types.mts")).toBe("");
});
