/** Embedded databases for tests: copies of those that were made once for the test run, by default with the schema. */
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { shared } from "./shared.js";
import type { PgliteTemplates } from "./templates.js";

interface Contents {
  readonly empty?: boolean;
}

/** In memory. `empty`: without the schema, as `PGlite.create()` makes it. */
export async function createPglite({ empty = false }: Contents = {}): Promise<PGlite> {
  const templates = await pgliteTemplates();
  const dump = new Blob([await readFile(empty ? templates.empty : templates.migrated)]);
  return PGlite.create({ loadDataDir: dump });
}

/** A folder for `embedded:` with the schema. `empty`: nothing is there yet. */
export async function createEmbedded({ empty = false }: Contents = {}): Promise<{
  readonly url: string;
  readonly folder: string;
  remove(): Promise<void>;
}> {
  const parent = await mkdtemp(join(tmpdir(), "posthorn-embedded-"));
  const folder = join(parent, "db");
  if (!empty) await copyEmbedded(folder);
  return { url: `embedded:${folder}`, folder, remove: () => rm(parent, { recursive: true, force: true }) };
}

/** Puts an embedded database with the schema where a program under test will look for one. */
export async function copyEmbedded(folder: string): Promise<void> {
  await cp((await pgliteTemplates()).folder, folder, { recursive: true });
}

async function pgliteTemplates(): Promise<PgliteTemplates> {
  return JSON.parse(await shared("pglite")) as PgliteTemplates;
}
