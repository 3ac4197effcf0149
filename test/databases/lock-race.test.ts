import { link, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import { holderOf, takeLock } from "../../src/databases/embedded/lock.js";
import { identity } from "../../src/databases/embedded/process-identity.js";

// What is loaded already has the real one, and nothing else may get this one.
vi.hoisted(() => vi.resetModules());
afterAll(() => {
  vi.doUnmock("node:fs/promises");
  vi.resetModules();
});

// The moment between reading the locks and taking the next one is a race; here it is opened by hand.
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  return { ...real, link: vi.fn(real.link) };
});

let folder: string;
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a process that was too slow, and takes a generation that was cleared away, stands back", async () => {
  // Goal: never two holders, even if two others took and cleared locks after the slow process had read them.
  // Method: between its look (1 is dead) and its link (2), generation 3 is taken and 1 is cleared away.
  folder = await mkdtemp(join(tmpdir(), "lock-"));
  const alive = { ...(await identity(process.pid)), since: "2020-01-01", socket: join(folder, "s"), released: false };
  await writeFile(join(folder, "lock.1"), JSON.stringify({ ...alive, start: "1", token: "dead" }));
  const real = (await vi.importActual<typeof import("node:fs/promises")>("node:fs/promises")).link;
  vi.mocked(link).mockImplementationOnce(async (from, to) => {
    await writeFile(join(folder, "lock.3"), JSON.stringify({ ...alive, token: "fast" }));
    await rm(join(folder, "lock.1"));
    await real(from, to);
  });
  await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({ code: "PH_EMBEDDED_HELD" });
  expect((await holderOf(folder))?.token).toBe("fast");
});
