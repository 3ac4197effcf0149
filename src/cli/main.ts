#!/usr/bin/env node
/** The process of the program `posthorn`. */
import { processIo } from "./io.js";
import { runCommand } from "./run.js";

// A reader that has seen enough, as `head` has, is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
// Its place is known only here: the other modules may lie in one file with others.
const code = await runCommand(process.argv.slice(2), processIo(), new URL(import.meta.url));
// Pools of the user's own configuration would keep the process alive; what was written goes out first.
process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
