/** `npm test`: everything that Node and npm alone can run. */
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");
const { build, buildExamples } = await import("./build.mjs");

const gates = new Gates();
gates.program("embedded SQL", "scripts/embed-sql.mjs", ["--check"]);
gates.check("build", () => build({ embed: false }));
gates.check("examples", () => buildExamples());
gates.program("lint and format", "node_modules/@biomejs/biome/bin/biome", ["check", "--error-on-warnings"]);
gates.program("types", "node_modules/typescript/bin/tsc", ["-p", ".", "--pretty", "false"]);
gates.program("package", "node_modules/publint/src/cli.js", ["--strict"]);
const attw = ["--pack", "--profile", "esm-only", "--no-emoji", "--no-summary", "--no-color"];
gates.program("package types", "node_modules/@arethetypeswrong/cli/dist/index.js", attw);
gates.vitest("tests");
gates.close();
