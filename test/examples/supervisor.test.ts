import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { isAlive } from "../support/alive.js";
import { eventually } from "../support/eventually.js";
import { order, settled, turn } from "./books.js";
import { type BuiltShop, buildShop, embedded, neighbours, type Place, runShop, Shop } from "./shop.js";

const program = "shop/supervise.js";

let built: BuiltShop;
let place: Place;
let beside: Awaited<ReturnType<typeof neighbours>>;

beforeAll(async () => {
  built = await buildShop();
  [place, beside] = await Promise.all([embedded(), neighbours()]);
});
afterAll(async () => {
  await place.remove();
  await beside.remove();
  await built.remove();
});

/** Ended with the test, however that ends: the next one needs the folder. */
async function start(): Promise<Shop> {
  const shop = await Shop.start(built, place.database, { program, env: beside.env });
  onTestFinished(async () => void (await shop.end("SIGKILL")));
  return shop;
}

async function lifeOf(shop: Shop): Promise<{ life: number; pid: number }> {
  return eventually(async () => (await shop.get("/status")).life, { withinMs: 60_000 });
}

describe("the supervisor of the shop", () => {
  test("starts it again at the same address when it is killed in the middle of a payment, and the order is charged once", async () => {
    const shop = await start();
    const before = await lifeOf(shop);
    await turn(shop, "kill", true);
    // The answer may be cut off by the kill, when the payment is quicker than it.
    await order(shop).catch(() => undefined);
    await eventually(async () => expect((await lifeOf(shop)).pid).not.toBe(before.pid), { withinMs: 60_000 });
    const status = await settled(shop, 1);
    expect(status.life.life).toBe(before.life + 1);
    expect(status.effects.find(({ name }: { name: string }) => name === "charges").noticed).toBeGreaterThan(0);

    process.kill(status.life.pid, "SIGKILL");
    await eventually(async () => expect((await lifeOf(shop)).pid).not.toBe(status.life.pid), { withinMs: 60_000 });

    const { pid } = await lifeOf(shop);
    expect(await shop.end("SIGTERM")).toBe(0);
    expect(isAlive(pid)).toBe(false);
  }, 240_000);

  test("is not outlived by the shop, not even when it is killed", async () => {
    const shop = await start();
    const { pid } = await lifeOf(shop);
    await shop.end("SIGKILL");
    await eventually(() => expect(isAlive(pid)).toBe(false), { withinMs: 60_000 });
  });

  test("does not start again what could not be opened the first time, and ends with its code", async () => {
    const env = { ...beside.env, DATABASE_URL: "postgres://127.0.0.1:1/none", PORT: "0" };
    const { code, errors } = await runShop(built, env, program);
    expect(code).toBe(1);
    expect(errors).toContain("PH_DATABASE_AWAY");
    expect(errors).not.toContain("started again");
  });

  test("gives up with a sentence when each start ends at once", async () => {
    const folder = join(built.folder, "loop");
    await mkdir(folder);
    await copyFile(join(built.folder, program), join(folder, "supervise.js"));
    await writeFile(join(folder, "main.js"), "process.send({ open: 1 }, () => process.exit(3));\n");
    for (const other of ["broker", "shipping"]) {
      await mkdir(join(folder, other));
      await writeFile(join(folder, other, "main.js"), "process.send({ open: 1 });\n");
    }
    const { code, errors } = await runShop(built, {}, "loop/supervise.js");
    expect(code).toBe(1);
    expect(errors.match(/it is started again/g)).toHaveLength(4);
    expect(errors.trim()).toMatch(/5 times in a row soon after its start\. It is not started again\.$/);
  });
});
