/** Loaded into every fixture process: a test run that is killed takes its children along. */
process.on("disconnect", () => process.exit(1));
process.channel?.unref();
