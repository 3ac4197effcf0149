/** `npm run test:long`: hundreds of kills of workers under load, deaths of the server, and hundreds of random runs beside a model. */
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

const gates = new Gates();
const suites = ["test/failure/kills.test.ts", "test/failure/everything.test.ts", "test/failure/server-death.test.ts"];
gates.vitest("many kills", suites, { POSTHORN_LONG: "1" });
gates.vitest("many runs", ["test/model"], { POSTHORN_LONG: "1" });
gates.close();
