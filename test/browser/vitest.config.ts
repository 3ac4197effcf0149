/** The tests in a browser are a part of their own: they need a program that npm does not install. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import base from "../../vitest.config.js";

// biome-ignore lint/style/noDefaultExport: vitest reads it.
export default defineConfig({
  ...base,
  root: fileURLToPath(new URL("../..", import.meta.url)),
  test: {
    ...base.test,
    include: [process.env.POSTHORN_SCREENSHOTS ? "test/browser/*.screenshots.ts" : "test/browser/*.browser.ts"],
  },
});
