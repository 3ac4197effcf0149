/** The tests on real brokers are a part of their own: they need programs that npm does not install. `npm run test:brokers` names the files. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import base, { serviceTests } from "../../vitest.config.js";

// biome-ignore lint/style/noDefaultExport: vitest reads it.
export default defineConfig({
  ...base,
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: { ...base.test, include: serviceTests, exclude: [] },
});
