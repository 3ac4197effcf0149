import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { sqlFiles } from "../../src/store/sql.gen.js";
import { root } from "./sources.js";

test("the embedded SQL is what the folder sql holds", async () => {
  const script = `${root}scripts/embed-sql.mjs`;
  await expect(promisify(execFile)(process.execPath, [script, "--check"])).resolves.toMatchObject({ stderr: "" });
});

test("the embedded SQL has every file byte by byte, in the order in which it runs", () => {
  const names = sqlFiles.map(({ name }) => name);
  const inFolder = (folder: string) => readdirSync(`${root}sql/${folder}`).map((name) => `${folder}/${name}`);
  const plain = readdirSync(`${root}sql`).filter((name) => name === "views.sql" || name === "grants.sql");
  const known = ["migrations", "functions"].flatMap((folder) => inFolder(folder).sort());
  expect(names).toEqual([...known, ...plain.sort().reverse()]);
  for (const { name, text } of sqlFiles) expect(text, name).toBe(readFileSync(`${root}sql/${name}`, "utf8"));
});
