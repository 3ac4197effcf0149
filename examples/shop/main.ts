/** The program: opens the shop, or says in a sentence why not. `supervise.ts` starts it again when it is killed. */
import { PosthornError } from "posthorn";

try {
  // Here and not above: the declarations that it imports refuse a wrong DATABASE_URL.
  const { open } = await import("./open.js");
  await open();
} catch (error) {
  console.error(inWords(error));
  process.exit(1);
}

/** The message of a typed error says what happened and what to do. */
function inWords(error: unknown): unknown {
  if (error instanceof PosthornError) return `${error.code}: ${error.message}`;
  return error instanceof Error && error.name === "WrongSetting" ? error.message : error;
}
