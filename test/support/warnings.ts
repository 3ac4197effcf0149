/** What Node warns of while something is done, by its name: a leak of listeners, for one. */
import { setImmediate as turn } from "node:timers/promises";

export async function warningsOf(act: () => Promise<unknown>): Promise<readonly string[]> {
  const told: string[] = [];
  const take = (warning: Error): void => void told.push(`${warning.name}: ${warning.message}`);
  process.on("warning", take);
  try {
    await act();
    // It is told in a turn of its own.
    await turn();
    return told;
  } finally {
    process.off("warning", take);
  }
}
