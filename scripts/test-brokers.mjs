/**
 * `npm run test:brokers`: the conformance suite on every real broker that can be had here. Each file of scripts/services starts one; its tests are in the file
 * of the same name in test/brokers. What cannot be had is skipped by name. `npm run test:brokers -- mosquitto` tests those that are named.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates, root } = await import("./gates.mjs");

const gates = new Gates();
const wanted = process.argv.slice(2);
const files = readdirSync(join(root, "scripts/services")).filter((file) => file.endsWith(".mjs"));
const tested = [];
const skipped = [];
for (const file of files) {
  const name = file.replace(/\.mjs$/, "");
  const suite = `test/brokers/${name}.test.ts`;
  if (!existsSync(join(root, suite)) || (wanted.length > 0 && !wanted.includes(name))) continue;
  const { title, available } = await import(`./services/${file}`);
  const version = await available();
  if (version === undefined) {
    gates.skip(title, "it is not here, and could not be installed");
    skipped.push(title);
  } else {
    tested.push({ suite, version });
  }
}
if (tested.length > 0) {
  const suites = tested.map(({ suite }) => suite);
  gates.vitest(tested.map(({ version }) => version).join(", "), [
    "--config",
    "test/brokers/vitest.config.ts",
    ...suites,
  ]);
}
const names = tested.map(({ version }) => version);
process.stdout.write(`\nbrokers tested: ${names.length > 0 ? names.join(", ") : "none"}`);
process.stdout.write(skipped.length > 0 ? `; not tested: ${skipped.join(", ")}\n` : "\n");
gates.close();
