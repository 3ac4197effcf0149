import { request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { order, turn, wish } from "./books.js";
import { type BuiltShop, buildShop, type Json, onServer, type Place, runShop, Shop } from "./shop.js";

let built: BuiltShop;
let place: Place;
let shop: Shop;

beforeAll(async () => {
  built = await buildShop();
  place = await onServer();
  shop = await Shop.start(built, place.database);
});
afterAll(async () => {
  await shop?.end();
  await place?.remove();
  await built?.remove();
});

const json = { "content-type": "application/json" };
const good = JSON.stringify(wish);
const nobodys = "0198c2a4-0000-7000-8000-000000000000";

function expectProblem(answer: { status: number; headers: Headers; json: Json }, status: number): void {
  expect([answer.status, answer.headers.get("content-type")]).toEqual([status, "application/problem+json"]);
  expect(answer.json).toMatchObject({ status, title: expect.any(String), detail: expect.any(String) });
}

describe("the shop refuses with a problem document", () => {
  test.each([
    ["what is not JSON", { body: "{", headers: json }, 400],
    ["what is not UTF-8", { body: new Uint8Array([0x22, 0xff, 0x22]), headers: json }, 400],
    ["an empty body", { headers: json }, 400],
    ["another content type", { body: good, headers: { "content-type": "text/plain" } }, 415],
    ["a form", { body: "sku=HORN-1", headers: { "content-type": "application/x-www-form-urlencoded" } }, 415],
    ["no content type", { body: new TextEncoder().encode(good) }, 415],
    ["a body that is too large", { body: `"${"x".repeat(1_000_000)}"`, headers: json }, 413],
    ["JSON that is no object", { body: "null", headers: json }, 422],
    ["a list", { body: "[]", headers: json }, 422],
    ["a request of another site", { body: good, headers: { ...json, "sec-fetch-site": "cross-site" } }, 403],
  ] as const)("%s", async (_name, init, status) => {
    for (const path of ["/orders", "/imports", "/users", "/session", "/surveys"]) {
      expectProblem(await shop.raw(path, { method: "POST", ...init }), status);
    }
    expect((await shop.get("/status")).orders).toBe(0);
    expect(await shop.get("/surveys")).toEqual([]);
  });

  test.each(["", "1", nobodys.toUpperCase().slice(1), `${nobodys}, ${nobodys}`, "'; drop table shop.survey"])(
    "an Idempotency-Key that is no UUID: %j",
    async (key) => {
      const headers = { ...json, "idempotency-key": key };
      expectProblem(await shop.raw("/orders", { method: "POST", body: good, headers }), 400);
      expect((await shop.get("/status")).orders).toBe(0);
    },
  );

  test("an Idempotency-Key that was used for another order, which stays as it was", async () => {
    const visitor = shop.visitor();
    await visitor.get("/me");
    const headers = { ...json, "idempotency-key": nobodys };
    const first = await visitor.raw("/orders", { method: "POST", body: good, headers });
    expect([first.status, first.json.again]).toEqual([201, false]);
    for (const other of [{ sku: "PEN-7" }, { email: "other@one.example" }, { postalCode: "20095" }]) {
      const body = JSON.stringify({ ...wish, ...other });
      expectProblem(await visitor.raw("/orders", { method: "POST", body, headers }), 422);
    }
    expect(await visitor.get("/orders")).toMatchObject([{ id: first.json.id, ...wish }]);
    // The key is the customer's own: with somebody else's nobody learns of their order.
    const stranger = shop.visitor();
    expect((await stranger.raw("/orders", { method: "POST", body: good, headers })).status).toBe(201);
  });

  test("a survey that does not exist or was asked for by somebody else, and one with a wish in it", async () => {
    const visitor = shop.visitor();
    const { json: asked } = await visitor.call("POST", "/surveys", {});
    for (const id of [asked.id, nobodys, "1", "%00", "1-0000000000000000", "%F0%9F", "..%2f"]) {
      expectProblem(await shop.call("GET", `/surveys/${id}`), 404);
      expectProblem(await shop.call("DELETE", `/surveys/${id}`), 404);
    }
    expectProblem(await shop.visitor().call("DELETE", `/surveys/${asked.id}`), 404);
    expectProblem(await visitor.call("PUT", `/surveys/${asked.id}`, {}), 405);
    expectProblem(await visitor.call("POST", "/surveys", { regions: [] }), 422);
    expect((await visitor.get("/surveys")).map(({ id }: Json) => id)).toEqual([asked.id]);
  });

  test("wrong, missing and unknown fields, each with a pointer to it", async () => {
    const { status, json } = await shop.call("POST", "/orders", { email: "nobody", "a/b~c d": 1 });
    expect(status).toBe(422);
    expect(json.errors.map(({ pointer }: Json) => pointer)).toEqual([
      "#/sku",
      "#/email",
      "#/postalCode",
      "#/a~1b~0c%20d",
    ]);
  });

  test.each([
    ["sku", 7],
    ["sku", "horn"],
    ["sku", "HORN-1\u0000"],
    ["email", ["a@one.example"]],
    ["email", `${"x".repeat(300)}@one.example`],
    ["email", "a@one.example\r\nBcc: b@one.example"],
    ["postalCode", 10115],
    ["postalCode", "1011"],
    ["postalCode", "١٠١١٥"],
    ["count", "10"],
    ["count", 0],
    ["count", -1],
    ["count", 1.5],
    ["count", 10_001],
    ["count", 1e300],
    ["count", null],
  ])("a wrong %s: %j", async (field, value) => {
    const answer = await shop.call("POST", "/imports", { ...wish, count: 1, [field]: value });
    expectProblem(answer, 422);
    expect(new Set(answer.json.errors.map(({ pointer }: Json) => pointer))).toEqual(new Set([`#/${field}`]));
  });

  test("numbers that no number can hold, and names that mean something to JavaScript", async () => {
    const huge = `{"sku":"HORN-1","email":"a@one.example","postalCode":"10115","count":1${"0".repeat(400)}}`;
    expectProblem(await shop.raw("/imports", { method: "POST", headers: json, body: huge }), 422);
    const proto = good.replace("{", '{"__proto__":{"count":1},"constructor":1,');
    const answer = await shop.raw("/orders", { method: "POST", headers: json, body: proto });
    expectProblem(answer, 422);
  });

  test("an article that it does not have, with a pointer to the field", async () => {
    for (const path of ["/orders", "/imports"]) {
      const more = path === "/imports" ? { count: 1 } : {};
      const { status, json } = await shop.call("POST", path, { ...wish, ...more, sku: "HORN-2" });
      expect([status, json.errors]).toEqual([422, [{ pointer: "#/sku", detail: "is not an article of this shop" }]]);
    }
    for (const sku of ["PEN-8", "pen", "%00", "%F0%9F", "..%2f"])
      expectProblem(await shop.call("GET", `/price/${sku}`), 404);
    await turn(shop, "pricing-down", true);
    expectProblem(await shop.call("POST", "/orders", { ...wish, sku: "HORN-2" }), 422);
    await turn(shop, "pricing-down", false);
  });

  test.each([
    "/nothing",
    "/orders/",
    "/orders/1",
    `/orders/${nobodys}`,
    "/routes.js",
    "/server.js",
    "/page",
    "/page/page.html",
    "/orders//",
  ])("an unknown path or order: %s", async (path) => {
    expectProblem(await shop.call("GET", path), 404);
  });

  test("a search without a text, with one that is too long, and with characters that PostgreSQL does not take", async () => {
    for (const query of ["", "?q=", "?q=%20", `?q=${"x".repeat(201)}`, "?q=a%00b", "?q=%zz", "?q=%"]) {
      expectProblem(await shop.call("GET", `/search${query}`), 400);
    }
    for (const q of ["'", "!!!", "a & | b", "\\", "%25", "-", '"', "%ff%fe"]) {
      expect((await shop.call("GET", `/search?q=${q.startsWith("%") ? q : encodeURIComponent(q)}`)).status).toBe(200);
    }
  });

  test("a method that the path does not take, and names those that it takes", async () => {
    const answer = await shop.call("DELETE", "/orders");
    expectProblem(answer, 405);
    expect(answer.headers.get("allow")).toBe("GET, HEAD, POST");
    const head = await shop.call("HEAD", "/orders");
    expect([head.status, head.json]).toEqual([200, ""]);
  });

  test("a switch that it does not have, and one that is neither on nor off", async () => {
    expectProblem(await shop.call("PUT", "/troubles/nothing", { on: true }), 404);
    for (const on of ["yes", 1, null]) expectProblem(await shop.call("PUT", "/troubles/kill", { on }), 422);
  });

  test("what is no HTTP, and headers that are too large", async () => {
    for (const [sent, status] of [
      ["nonsense\r\n\r\n", 400],
      [`GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(40_000)}\r\n\r\n`, 431],
    ] as const) {
      const socket = connect(Number(new URL(shop.url).port), "127.0.0.1");
      socket.end(sent);
      const answer = await text(socket);
      expect(answer).toContain(`HTTP/1.1 ${status} `);
      expect(answer).toContain("application/problem+json");
    }
  });

  test("a path with dots, without a look at other files", async () => {
    // fetch would resolve the dots.
    for (const path of ["/../package.json", "/../../etc/passwd", "//"]) {
      const status = await new Promise((resolve, reject) => {
        const { port } = new URL(shop.url);
        request({ port, host: "127.0.0.1", path }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .on("error", reject)
          .end();
      });
      expect(status).toBe(404);
    }
  });
});

describe("the shop knows its visitors", () => {
  const password = "a long enough one";

  test("a guest sees their own orders, and nobody else sees them or learns that they exist", async () => {
    const guest = shop.visitor();
    const id = await order(guest);
    expect((await guest.get(`/orders/${id}`)).id).toBe(id);
    expect((await guest.get("/orders")).map((one: Json) => one.id)).toEqual([id]);
    const other = shop.visitor();
    await order(other);
    for (const somebody of [other, shop.visitor()]) {
      const theirs = await somebody.call("GET", `/orders/${id}`);
      const none = await somebody.call("GET", `/orders/${nobodys}`);
      expectProblem(theirs, 404);
      expect(theirs.json).toEqual(none.json);
    }
  });

  test("a user registers, is welcomed by mail, keeps what they ordered as a guest, and sees it after the next log-in", async () => {
    const visitor = shop.visitor();
    const id = await order(visitor);
    const registered = await visitor.call("POST", "/users", { email: "Grace@One.Example", password });
    expect([registered.status, registered.json]).toEqual([201, { email: "grace@one.example" }]);
    const cookie = registered.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/^post_shop=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Lax; Max-Age=\d+$/);
    expect((await visitor.get(`/orders/${id}`)).id).toBe(id);
    const own = await order(visitor);
    await expect
      .poll(async () => (await shop.get("/mails")).map(({ subject }: Json) => subject))
      .toContain("Welcome to the Post Shop");

    const elsewhere = shop.visitor();
    expect((await elsewhere.call("POST", "/session", { email: "grace@one.example", password })).status).toBe(201);
    expect(await elsewhere.get("/me")).toEqual({ email: "grace@one.example" });
    expect((await elsewhere.get(`/orders/${own}`)).id).toBe(own);

    const kept = { headers: { cookie: cookie.split(";", 1)[0] ?? "" } };
    await visitor.call("DELETE", "/session");
    expect((await shop.raw("/me", kept)).json).toEqual({ email: null });
  });

  test("the demo user can log in at once", async () => {
    const visitor = shop.visitor();
    const body = { email: "ada@example.com", password: "brass and envelopes" };
    expect((await visitor.call("POST", "/session", body)).json).toEqual({ email: "ada@example.com" });
  });

  test("a wrong password and an unknown user get the same answer", async () => {
    const wrongs = [
      { email: "ada@example.com", password: "brass and envelope" },
      { email: "nobody@example.com", password: "brass and envelopes" },
      { email: "ada@example.com", password: "" },
    ];
    const answers = await Promise.all(wrongs.map((body) => shop.visitor().call("POST", "/session", body)));
    for (const answer of answers) expectProblem(answer, 401);
    expect(new Set(answers.map(({ json }) => JSON.stringify(json))).size).toBe(1);
  });

  test("a second account with one address, and a password that is too short, are refused", async () => {
    const twice = await shop.visitor().call("POST", "/users", { email: "ADA@example.com", password });
    expectProblem(twice, 409);
    const short = await shop.visitor().call("POST", "/users", { email: "new@example.com", password: "short" });
    expectProblem(short, 422);
    expect(short.json.errors.map(({ pointer }: Json) => pointer)).toEqual(["#/password"]);
  });

  test.each([
    "post_shop=",
    "post_shop=%00",
    "post_shop",
    ";;;===",
    `post_shop=${"A".repeat(43)}`,
    `x=${"y".repeat(4000)}`,
    "post_shop='; drop table shop.session",
  ])("a cookie that is not ours counts as none: %s", async (cookie) => {
    const answer = await shop.raw("/me", { headers: { cookie } });
    expect([answer.status, answer.json]).toEqual([200, { email: null }]);
    expect((await shop.raw("/orders", { headers: { cookie } })).json).toEqual([]);
  });
});

describe("the shop's process", () => {
  test("serves the page and what belongs to it, and the page loads nothing from elsewhere", async () => {
    const page = await shop.raw("/", {});
    expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(page.headers.get("content-security-policy")).toBe("default-src 'self'; frame-ancestors 'none'");
    for (const [path, type] of [
      ["/page.css", "text/css; charset=utf-8"],
      ["/page.js", "text/javascript; charset=utf-8"],
      ["/icon.svg", "image/svg+xml"],
    ] as const) {
      expect((await shop.raw(path, {})).headers.get("content-type")).toBe(type);
    }
  });

  test("a taken port is replaced by a free one, and a wrong one is refused in a sentence", async () => {
    const port = Number(new URL(shop.url).port);
    const other = await Shop.start(built, place.database, { port });
    try {
      expect(other.url).not.toBe(shop.url);
      expect((await other.call("GET", "/status")).status).toBe(200);
    } finally {
      await other.end();
    }
    const { code, errors } = await runShop(built, { DATABASE_URL: place.database, PORT: "eighty" });
    expect([code, errors.trim()]).toEqual([1, "PORT must be a whole number from 0 to 65535, not eighty."]);
  });

  test("a database of no known form is refused in a sentence that does not repeat it", async () => {
    const { code, errors } = await runShop(built, { DATABASE_URL: "mysql://ada:secret@localhost", PORT: "0" });
    expect(code).toBe(1);
    expect(errors).toMatch(/^PH_OPTION_INVALID: posthorn\(\)\.database must be a postgres:\/\/ URL[^\n]*\n$/);
    expect(errors).not.toContain("secret");
  });
});
