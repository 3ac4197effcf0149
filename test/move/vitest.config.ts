/** Real dumps are a part of their own: they need PostgreSQL's own programs, which npm does not bring. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import base from "../../vitest.config.js";

// biome-ignore lint/style/noDefaultExport: vitest reads it.
export default defineConfig({
  ...base,
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: { ...base.test, include: ["test/move/*.postgres.ts"] },
});
