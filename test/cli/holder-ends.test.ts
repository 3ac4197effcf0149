/** What only reads does not leave anything in doubt where the process that holds the embedded folder ends meanwhile. */
import { expect, test } from "vitest";
import { reading, withDatabase } from "../../src/cli/open.js";
import { parseLine } from "../../src/cli/parse.js";
import type { Database } from "../../src/core/database.js";
import { createEmbedded } from "../support/pglite.js";
import { spawnFixture } from "../support/processes.js";

// `posthorn status` said that the holder has closed the connection, and that what was not confirmed may or may not be committed.
test("a command that only reads is answered though the holder of the embedded folder ends meanwhile; one that changes something is told", async () => {
  const { url, remove } = await createEmbedded();
  try {
    const line = parseLine(["status", "--database", url]);
    for (const [open, outcome] of [
      [reading, { rows: [{ one: 1 }] }],
      [withDatabase, expect.objectContaining({ code: expect.stringMatching(/^PH_DATABASE_(LOST|AWAY)$/) })],
    ] as const) {
      const holder = await spawnFixture("test/cli/fixtures/app.ts", { args: [JSON.stringify({ url })] });
      await holder.line("works", { withinMs: 60_000 });
      let asked = 0;
      const work = async (database: Database) => {
        asked += 1;
        if (asked === 1) {
          holder.kill("SIGKILL");
          await holder.exited;
        }
        return await database.query("select 1 as one");
      };
      const ended = await open(line, work).catch((error: unknown) => error);
      expect(ended).toEqual(outcome);
    }
  } finally {
    await remove();
  }
});
