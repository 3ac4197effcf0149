/** Runs the example shop: installs what is missing, builds, and starts it in this process, so that signals reach it directly. */
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { build, buildExamples } = await import("./build.mjs");
if (!build() || !buildExamples()) process.exit(1);
await import("../dist-examples/shop/main.js");
