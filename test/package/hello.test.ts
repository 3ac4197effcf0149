import { readFileSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { root } from "../architecture/sources.js";
import { createProject, install } from "./installed.js";
import { helloOf } from "./readme.js";

const longest = 12;

test("the README's hello world, installed by the line above it from the packed package, prints the line below it", async () => {
  const hello = helloOf(readFileSync(`${root}README.md`, "utf8"));
  const project = await createProject();
  onTestFinished(project.remove);
  await install(project, hello.install);
  // The compiler sees the declarations as a user's project does; from TypeScript it also makes what runs.
  const typed = hello.language.startsWith("t");
  await project.write(typed ? "hello.mts" : "hello.mjs", hello.program);
  const complaints = typed
    ? project.compile("hello.mts")
    : project.compile("--allowJs", "--checkJs", "--noEmit", "hello.mjs");
  expect(await complaints).toBe("");
  const { stdout, stderr } = await project.node("hello.mjs");
  expect({ stdout: stdout.trimEnd(), stderr }).toEqual({ stdout: hello.output, stderr: "" });
}, 180_000);

test(`the README's hello world has at most ${longest} lines`, () => {
  const { program } = helloOf(readFileSync(`${root}README.md`, "utf8"));
  expect(program.split("\n").length).toBeLessThanOrEqual(longest);
});

test("the parts of the hello world are found in their order, and a missing one is named", () => {
  const block = (language: string, text: string) => `\`\`\`${language}\n${text}\n\`\`\`\n`;
  const readme = `# x\n${block("sh", "npm i posthorn")}words\n${block("js", "a\n\nb")}${block("text", "out")}${block("js", "c")}`;
  expect(helloOf(readme)).toEqual({ install: "npm i posthorn", program: "a\n\nb", language: "js", output: "out" });
  expect(() => helloOf(block("sh", "npm i posthorn"))).toThrow("README.md has no hello world");
});
