import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { root } from "../architecture/sources.js";

interface Manifest {
  readonly version: string;
  readonly publishConfig: Readonly<Record<string, unknown>>;
}

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;

async function check(tag: string): Promise<{ readonly code: number; readonly err: string }> {
  return promisify(execFile)(process.execPath, [join(root, "scripts/check-release.mjs"), tag]).then(
    ({ stderr }) => ({ code: 0, err: stderr }),
    (error: { code: number; stderr: string }) => ({ code: error.code, err: error.stderr }),
  );
}

test("a tag that is no version, or another than that of the package, or without a section in the changelog is not released", async () => {
  expect(await check("1.2")).toMatchObject({ code: 1, err: expect.stringContaining("is no version") });
  expect(await check("v99.0.0")).toMatchObject({
    code: 1,
    err: expect.stringContaining(`package.json says ${manifest.version}`),
  });
  const script: string = join(root, "scripts/check-release.mjs");
  const { problems: found } = (await import(script)) as {
    problems(tag: string, of: object, log: string): readonly string[];
  };
  const problems = (tag: string, version: string, changelog: string) =>
    found(tag, { version, repository: {} }, changelog);
  const log = (head: string, body = "- One.") => `# Changelog\n\n## Unreleased\n\n${head}\n\n### Added\n\n${body}\n`;
  expect(problems("v1.2.3", "1.2.3", log("## 1.2.3 - 2026-01-31"))).toEqual([]);
  expect(problems("v1.2.3-rc.1", "1.2.3-rc.1", log("## 1.2.3-rc.1 - 2026-01-31"))).toEqual([]);
  expect(found("v1.2.3", { version: "1.2.3" }, log("## 1.2.3 - 2026-01-31"))).toEqual([
    expect.stringContaining("names no repository"),
  ]);
  expect(problems("v1.2.3", "1.2.3", log("## 1.2.30 - 2026-01-31"))).toEqual([
    expect.stringContaining("has no section"),
  ]);
  expect(problems("v1.2.3", "1.2.3", log("## 1.2.3"))).toEqual([expect.stringContaining("has no date")]);
  expect(problems("v1.2.3", "1.2.3", log("## 1.2.3 - 2026-01-31", "Nothing."))).toEqual([
    expect.stringContaining("lists nothing"),
  ]);
});

test("the package is published in the open, with provenance, by a workflow that may not write to the repository and stores no token", () => {
  expect(manifest.publishConfig).toEqual({ access: "public", provenance: true });
  const workflow = readFileSync(join(root, ".github/workflows/release.yml"), "utf8");
  expect(workflow).toContain("id-token: write");
  expect(workflow).toContain("npm publish --provenance --access public");
  expect(workflow).not.toMatch(/secrets\.|contents: write/);
  const before = (one: string, other: string) =>
    workflow.indexOf(one) > 0 && workflow.indexOf(one) < workflow.indexOf(other);
  expect(before("check-release", "npm publish") && before("npm test", "npm publish")).toBe(true);
});
