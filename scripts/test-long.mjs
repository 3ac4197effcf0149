/** `npm run test:long`: hundreds of kills of workers under load, deaths of the server, and hundreds of random runs beside a model. */
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

const gates = new Gates();
const kills = ["kills", "everything", "server-death"].map((name) => `test/failure/${name}.test.ts`);
// In one run: none waits for the longest of the others.
gates.vitest("many kills, many runs", [...kills, "test/model"], { POSTHORN_LONG: "1" });
gates.close();
