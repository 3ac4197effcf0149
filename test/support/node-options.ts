/**
 * Options of Node for processes that tests start.
 *
 * PGlite is WebAssembly. V8 compiles it quickly at first, and what is called often again, thoroughly, which costs a second or more of
 * processor time in each process and is repaid in none that lives as shortly as those of tests.
 */
export const shortLived: readonly string[] = ["--liftoff-only"];
