import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
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

test("an application that is bundled into one small file gets errors of the same names and classes from every entry", async () => {
  await project.write(
    "application.mjs",
    `import { ConfigurationError, posthorn } from "posthorn";
     import { nats } from "posthorn/nats";
     import { webhook } from "posthorn/webhooks";
     for (const refused of [() => posthorn({}), () => nats({ url: "x", stream: "X" }), () => webhook({})]) {
       try { refused(); } catch (error) { console.log(error.name, error instanceof ConfigurationError); }
     }`,
  );
  const made = await rolldown({
    input: join(project.folder, "application.mjs"),
    platform: "node",
    // Drivers and clients are not installed here.
    onLog: (level, { code }) => expect([level, code]).toEqual(["warn", "UNRESOLVED_IMPORT"]),
  });
  await made.write({ file: join(project.folder, "bundled.mjs"), minify: true, codeSplitting: false });
  await made.close();
  const { stdout } = await project.node("bundled.mjs");
  expect(stdout.trim().split("\n")).toEqual(Array(3).fill("ConfigurationError true"));
});

test("a bundler leaves the import of a driver that is not installed to the run: each is caught, as bundlers ask for", async () => {
  const folder = join(project.folder, "node_modules/posthorn/dist");
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".js"));
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  const imports = texts.flatMap((text) => text.match(/\bimport\("(?:pg|@electric-sql\/pglite)"\)[.\w]*/g) ?? []);
  expect(imports.sort()).toEqual(['import("@electric-sql/pglite").catch', 'import("pg").catch']);
});
