import pg from "pg";
import { expect, test, vi } from "vitest";
import { createDatabase } from "../support/server.js";

const { Pool } = pg;

// Each was given the client and gave it back within the call that had given it: thousands ended in "Maximum call stack size exceeded".
test("a pool goes on after thousands have given up waiting for a connection", async () => {
  const place = await createDatabase();
  const own = new Pool({ connectionString: place.url, max: 1 });
  // With timers of its own, so that nobody waits for the time to pass.
  vi.resetModules();
  const fresh = await import("../../src/databases/open.js");
  const opened = await fresh.openDatabase(own);
  const client = await own.connect();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  const waiting = Array.from({ length: 5_000 }, () => opened.query("select 1").catch(({ code }) => code));
  vi.advanceTimersByTime(60_000);
  vi.useRealTimers();
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["PH_DATABASE_BUSY"]));
  const warned: Error[] = [];
  const onWarning = (warning: Error): number => warned.push(warning);
  process.on("warning", onWarning);
  client.release();
  expect((await opened.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  process.off("warning", onWarning);
  expect(warned).toEqual([]);
  await own.end();
  await place.drop();
});
