import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { type BuiltShop, buildShop, runShop, Shop } from "./shop.js";

let built: BuiltShop;

beforeAll(async () => {
  built = await buildShop();
});
afterAll(() => built.remove());

interface Place {
  readonly database: string;
  remove(): Promise<void>;
}

async function embedded(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-shop-data-"));
  return { database: `embedded:${folder}`, remove: () => rm(folder, { recursive: true, force: true }) };
}

async function server(): Promise<Place> {
  const database = await createDatabase();
  return { database: database.url, remove: () => database.drop() };
}

/** Places an order and returns its id. */
async function order(shop: Shop, email: string, sku = "HORN-1"): Promise<string> {
  const { status, headers, json } = await shop.call("POST", "/orders", { sku, email });
  expect({ status, location: headers.get("location") }).toEqual({ status: 201, location: `/orders/${json.id}` });
  return json.id;
}

/** Waits until each of these addresses has its one mail; returns the mails. */
async function mailsTo(shop: Shop, ...addresses: readonly string[]) {
  return eventually(
    async () => {
      const mails: { to: string; subject: string; text: string; attempt: number; deliveries: number }[] =
        await shop.get("/mails");
      const theirs = mails.filter(({ to }) => addresses.includes(to));
      expect(theirs.map(({ to }) => to).sort()).toEqual([...addresses].sort());
      return theirs;
    },
    { withinMs: 20_000 },
  );
}

/** What became of the messages of an order: "OrderPlaced confirmations succeeded". */
async function becameOf(shop: Shop, id: string): Promise<readonly string[]> {
  const { messages } = await shop.get(`/orders/${id}`);
  return messages.flatMap(({ name, receivers }: { name: string; receivers: { name: string; state: string }[] }) =>
    receivers.map((receiver) => `${name} ${receiver.name} ${receiver.state}`),
  );
}

const allSucceeded = ["OrderPlaced confirmations succeeded", "SendEmail email succeeded"];

describe.each([
  ["the embedded database", embedded],
  ["a PostgreSQL server", server],
] as const)("the shop on %s", (_name, make) => {
  let place: Place;
  let shop: Shop;

  beforeAll(async () => {
    place = await make();
    shop = await Shop.start(built, place.database);
  });
  afterAll(async () => {
    await shop?.end();
    await place?.remove();
  });

  test("delivers one mail for each order, and tells that every message succeeded", async () => {
    const addresses = ["a", "b", "c", "d", "e"].map((name) => `${name}@one.example`);
    const ids = await Promise.all(addresses.map((address) => order(shop, address)));
    const mails = await mailsTo(shop, ...addresses);
    for (const { to, subject, text, attempt, deliveries } of mails) {
      const id = ids[addresses.indexOf(to)];
      expect({ subject, attempt, deliveries }).toEqual({ subject: "Your order: Post horn", attempt: 1, deliveries: 1 });
      expect(text).toBe(`Thank you for your order.\n\n  Post horn, 149.00 EUR\n\nOrder ${id}`);
    }
    for (const id of ids) await eventually(async () => expect(await becameOf(shop, id)).toEqual(allSucceeded));
    expect(await mailsTo(shop, ...addresses)).toEqual(mails);
    expect((await shop.get("/orders")).map(({ id }: { id: string }) => id).sort()).toEqual([...ids].sort());
  });

  test("answers the price of an article now, and refuses an article that it does not have", async () => {
    expect(await shop.get("/price/PEN-7")).toMatchObject({ sku: "PEN-7", cents: 4200 });
    for (const sku of ["PEN-8", "pen", "%00", "%zz"]) {
      const { status, headers, json } = await shop.call("GET", `/price/${sku}`);
      expect([status, headers.get("content-type"), json.title]).toEqual([404, "application/problem+json", "Not Found"]);
    }
  });

  test("tries a mail again that was turned away, tells each failure, and delivers it once", async () => {
    await shop.call("PUT", "/mail-server", { accepting: false });
    const id = await order(shop, "late@one.example", "WAX-3");
    const failures = await eventually(async () => {
      const [, sent] = (await shop.get(`/orders/${id}`)).messages;
      return sent?.receivers[0].state === "retrying" && sent.receivers[0].failures;
    });
    expect(failures[0]).toMatchObject({ attempt: 1, error: expect.stringContaining("451") });
    await shop.call("PUT", "/mail-server", { accepting: true });
    const [mail] = await mailsTo(shop, "late@one.example");
    expect(mail?.attempt).toBeGreaterThan(1);
    expect(mail?.deliveries).toBe(1);
    await eventually(async () => expect(await becameOf(shop, id)).toEqual(allSucceeded));
  });

  test("delivers the mail of an order that it had just confirmed when it was killed, and still shows it", async () => {
    const ids: string[] = [];
    const addresses = [0, 1, 2].map((round) => `kill-${round}@one.example`);
    for (const address of addresses) {
      ids.push(await order(shop, address));
      await shop.end("SIGKILL");
      shop = await Shop.start(built, place.database);
    }
    const mails = await mailsTo(shop, ...addresses);
    // A kill between the delivery and its settlement repeats it under the same Message-ID: noticed, and kept once.
    expect(mails.length).toBe(3);
    for (const id of ids) await eventually(async () => expect(await becameOf(shop, id)).toEqual(allSucceeded));
  });

  test("finishes and ends with 0 on SIGTERM", async () => {
    await order(shop, "last@one.example");
    expect(await shop.end("SIGTERM")).toBe(0);
    shop = await Shop.start(built, place.database);
    await mailsTo(shop, "last@one.example");
  });
});

describe("the shop refuses with a problem document", () => {
  let place: Place;
  let shop: Shop;

  beforeAll(async () => {
    place = await server();
    shop = await Shop.start(built, place.database);
  });
  afterAll(async () => {
    await shop?.end();
    await place?.remove();
  });

  const json = { "content-type": "application/json" };
  const good = JSON.stringify({ sku: "HORN-1", email: "a@one.example" });

  test.each([
    ["what is not JSON", { body: "{", headers: json }, 400],
    ["what is not UTF-8", { body: new Uint8Array([0x22, 0xff, 0x22]), headers: json }, 400],
    ["an empty body", { headers: json }, 400],
    ["another content type", { body: good, headers: { "content-type": "text/plain" } }, 415],
    ["no content type", { body: new TextEncoder().encode(good) }, 415],
    ["a body that is too large", { body: `"${"x".repeat(1_000_000)}"`, headers: json }, 413],
    ["JSON that is no object", { body: "null", headers: json }, 422],
  ] as const)("%s", async (_name, init, status) => {
    const answer = await shop.raw("/orders", { method: "POST", ...init });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([status, "application/problem+json"]);
    expect(answer.json).toMatchObject({ status, title: expect.any(String), detail: expect.any(String) });
    expect(await shop.get("/orders")).toEqual([]);
  });

  test("wrong, missing and unknown fields, each with a pointer to it", async () => {
    const { status, json } = await shop.call("POST", "/orders", { email: "nobody", "a/b~c d": 1 });
    expect(status).toBe(422);
    expect(json.errors.map(({ pointer }: { pointer: string }) => pointer)).toEqual([
      "#/sku",
      "#/email",
      "#/a~1b~0c%20d",
    ]);
  });

  test("an article that it does not have, with a pointer to the field", async () => {
    const { status, json } = await shop.call("POST", "/orders", { sku: "HORN-2", email: "a@one.example" });
    expect([status, json.errors]).toEqual([422, [{ pointer: "#/sku", detail: "is not an article of this shop" }]]);
    expect(await shop.get("/orders")).toEqual([]);
  });

  test("an unknown path and an unknown order", async () => {
    for (const path of [
      "/nothing",
      "/orders/",
      "/orders/1",
      "/orders/0198c2a4-0000-7000-8000-000000000000",
      "/post.js",
    ]) {
      const { status, headers } = await shop.call("GET", path);
      expect([path, status, headers.get("content-type")]).toEqual([path, 404, "application/problem+json"]);
    }
  });

  test("a method that the path does not take, and names those that it takes", async () => {
    const { status, headers } = await shop.call("DELETE", "/orders");
    expect([status, headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
    const head = await shop.call("HEAD", "/orders");
    expect([head.status, head.json]).toEqual([200, ""]);
  });

  test("a path with dots, without a look at other files", async () => {
    // fetch would resolve the dots.
    const status = await new Promise((resolve, reject) => {
      const { port } = new URL(shop.url);
      request({ port, host: "127.0.0.1", path: "/../package.json" }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
    expect(status).toBe(404);
  });

  test("serves the page and what belongs to it, and the page loads nothing from elsewhere", async () => {
    const page = await shop.raw("/", {});
    expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(page.headers.get("content-security-policy")).toBe("default-src 'self'");
    for (const [path, type] of [
      ["/page.css", "text/css; charset=utf-8"],
      ["/page.js", "text/javascript; charset=utf-8"],
      ["/icon.svg", "image/svg+xml"],
    ] as const) {
      expect((await shop.raw(path, {})).headers.get("content-type")).toBe(type);
    }
  });

  test("a taken port is replaced by a free one, and a wrong one is refused in a sentence", async () => {
    const taken = Number(new URL(shop.url).port);
    const other = await Shop.start(built, place.database, taken);
    try {
      expect(other.url).not.toBe(shop.url);
      expect(await other.get("/orders")).toEqual([]);
    } finally {
      await other.end();
    }
    const { code, errors } = await runShop(built, { DATABASE_URL: place.database, PORT: "eighty" });
    expect([code, errors.trim()]).toEqual([1, "PORT must be a whole number from 0 to 65535, not eighty."]);
  });
});
