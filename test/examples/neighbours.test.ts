/**
 * Goal: two services with a database each, joined by a broker: every order is sent off once, whatever is killed.
 * Method: the shop as `npm start` runs it. Its own tables tell what came back from the shipping department.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { effect, order, station, turn, wrong } from "./books.js";
import { type BuiltShop, buildShop, neighbours, onServer, type Place, Shop } from "./shop.js";

let built: BuiltShop;
let place: Place;
let beside: Awaited<ReturnType<typeof neighbours>>;
let shop: Shop;

beforeAll(async () => {
  built = await buildShop();
  [place, beside] = await Promise.all([onServer(), neighbours()]);
  shop = await Shop.start(built, place.database, { program: "shop/supervise.js", env: beside.env });
}, 120_000);
afterAll(async () => {
  await shop?.end("SIGTERM");
  await place.remove();
  await beside.remove();
  await built.remove();
});

async function sentOff(orders: number): Promise<void> {
  await eventually(
    async () => {
      const status = await shop.get("/status");
      expect(wrong(status), "lost or repeated").toEqual([]);
      expect(effect(status, "parcels")).toMatchObject({ wanted: orders, there: orders });
      return true;
    },
    { withinMs: 120_000, everyMs: 200 },
  );
}

/** Process ids of a program that the supervisor runs. */
async function pidsOf(program: string): Promise<readonly number[]> {
  const { stdout } = await promisify(execFile)("ps", ["-eo", "pid,ppid,args"]);
  const lines = stdout.split("\n").map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line));
  return lines.flatMap((found) =>
    found !== null && Number(found[2]) === shop.pid && found[3]?.endsWith(program) ? [Number(found[1])] : [],
  );
}

describe("the shop and its shipping department", () => {
  test("an order goes out by the broker, and what the department says comes back", async () => {
    const id = await order(shop);
    await sentOff(1);
    expect((await shop.get(`/orders/${id}`)).parcel).toMatch(/^PH-\d{6}$/);
  });

  test("while the broker is down orders wait in the log, without a failed attempt, and go out when it is back", async () => {
    await turn(shop, "broker-down", true);
    for (let n = 0; n < 5; n += 1) await order(shop);
    await eventually(
      async () => {
        const way = station(await shop.get("/status"), "to-shipping");
        expect(way.waiting + way.retrying).toBe(5);
        expect(way.dead).toBe(0);
        return true;
      },
      { withinMs: 60_000 },
    );
    await turn(shop, "broker-down", false);
    await sentOff(6);
  });

  test("each is sent off once although the broker's answers are lost, and each of the three processes is killed", async () => {
    await turn(shop, "delivered-twice", true);
    const { status } = await shop.call("POST", "/imports", {
      sku: "HORN-1",
      email: "guest@one.example",
      postalCode: "10115",
      count: 300,
    });
    expect(status).toBe(202);
    for (const program of ["shipping/main.js", "broker/main.js", "shop/main.js"]) {
      const [pid] = await pidsOf(program);
      if (pid === undefined) throw new Error(`${program} does not run`);
      process.kill(pid, "SIGKILL");
      await eventually(async () => ((await pidsOf(program))[0] ?? pid) !== pid, { withinMs: 60_000 });
    }
    await eventually(async () => turn(shop, "delivered-twice", false).then(() => true), { withinMs: 60_000 });
    await sentOff(306);
  }, 240_000);
});
