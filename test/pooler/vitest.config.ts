/** The tests behind a pooler are a part of their own: they need a program that npm does not install. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import base from "../../vitest.config.js";

// biome-ignore lint/style/noDefaultExport: vitest reads it.
export default defineConfig({
  ...base,
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: { ...base.test, include: ["test/pooler/*.pooler.ts"] },
});
