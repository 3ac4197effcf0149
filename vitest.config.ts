import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { configDefaults, defineConfig } from "vitest/config";
import { shortLived } from "./test/support/node-options.js";
import { useMemory } from "./test/support/temp-folder.js";

useMemory();

/** The tests on brokers that npm does not install: one file for each that scripts/services starts. `npm run test:brokers` runs them. */
export const serviceTests = readdirSync(new URL("./scripts/services", import.meta.url))
  .filter((file) => file.endsWith(".mjs"))
  .map((file) => `test/brokers/${file.replace(/\.mjs$/, "")}.test.ts`);

export default defineConfig({
  resolve: {
    // Tests and examples import the package by its name and get the sources.
    alias: [
      { find: /^posthorn$/, replacement: fileURLToPath(new URL("./src/index.ts", import.meta.url)) },
      { find: /^posthorn\/http$/, replacement: fileURLToPath(new URL("./src/http/index.ts", import.meta.url)) },
      { find: /^posthorn\/(\w+)$/, replacement: fileURLToPath(new URL("./src/brokers/$1/index.ts", import.meta.url)) },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...serviceTests],
    globalSetup: ["test/support/global-setup.ts"],
    // Files share the sources that their process has loaded, and nothing of tests: the setup file sees to it.
    isolate: false,
    setupFiles: ["test/support/fresh.ts"],
    pool: "forks",
    execArgv: [...shortLived],
    // More than CI has processors: many a test waits for what other processes do.
    maxWorkers: 3,
    testTimeout: 120_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    // What a test waits for comes at once, or on a slow machine later; a wait that is too short would only make tests unsteady.
    expect: { poll: { timeout: 60_000 } },
    retry: 0,
  },
});
