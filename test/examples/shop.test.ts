import { randomUUID } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import {
  allSucceeded,
  becameOf,
  effect,
  effectsOfOrders,
  order,
  settled,
  station,
  turn,
  wish,
  wrong,
} from "./books.js";
import { type BuiltShop, buildShop, embedded, type Json, onServer, type Place, posthorn, Shop } from "./shop.js";

let built: BuiltShop;

beforeAll(async () => {
  built = await buildShop();
});
afterAll(() => built.remove());

describe.each([
  ["the embedded database", embedded, 60],
  ["a PostgreSQL server", onServer, 200],
] as const)("the shop on %s", (_name, make, many) => {
  let place: Place;
  let shop: Shop;
  /** Placed so far. */
  let orders = 0;

  beforeAll(async () => {
    place = await make();
    shop = await Shop.start(built, place.database);
  });
  afterAll(async () => {
    await shop?.end();
    await place?.remove();
  });

  test("one order leads to one mail, charge, webhook, search document, shipment, ledger line and count in the figures", async () => {
    const id = await order(shop, { email: "ada@one.example", postalCode: "26465", sku: "WAX-3" });
    orders += 1;
    const status = await settled(shop, orders);
    expect(effectsOfOrders.map((name) => [name, effect(status, name).there])).toEqual(
      effectsOfOrders.map((name) => [name, 1]),
    );
    await eventually(async () => expect(await becameOf(shop, id)).toEqual(allSucceeded));
    const { article, cents, priceConfirmed, shipment, mails } = await shop.get(`/orders/${id}`);
    expect({ article, cents, priceConfirmed, shipment }).toEqual({
      article: "Sealing wax",
      cents: 1275,
      priceConfirmed: true,
      shipment: { region: "Langeoog", zone: "island", days: 5 },
    });
    expect(mails).toMatchObject([
      {
        to: "ada@one.example",
        subject: "Your order: Sealing wax",
        text: `Thank you for your order.\n\n  Sealing wax, 12.75 EUR\n\nOrder ${id}`,
        deliveries: 1,
      },
    ]);
    expect(status.figures.find(({ sku }: Json) => sku === "WAX-3")).toMatchObject({ orders: 1, cents: 1275 });
  });

  test("an order is found by its article in any form, its address and its postal code, and by nobody else", async () => {
    const id = await order(shop, { email: "lovelace@one.example", sku: "ENV-25", postalCode: "80331" });
    orders += 1;
    for (const q of ["envelope", "lovelace", "lovelace@one.example", "80331", id.slice(0, 8)]) {
      await eventually(async () => {
        const { total, hits } = await shop.get(`/search?q=${encodeURIComponent(q)}`);
        expect([q, total, hits[0]?.id]).toEqual([q, 1, id]);
        return true;
      });
    }
    expect(await shop.get("/search?q=nothing-of-this")).toEqual({ total: 0, hits: [] });
    expect(await shop.visitor().get("/search?q=envelope")).toEqual({ total: 0, hits: [] });
  });

  test("what was paid is reported to accounting once, as CSV in a mail, and every line is booked", async () => {
    await settled(shop, orders);
    await shop.call("POST", "/reports", {});
    const status = await eventually(async () => {
      const now = await shop.get("/status");
      expect(effect(now, "reports")).toMatchObject({ wanted: orders, there: orders, lost: 0, repeated: 0 });
      return now;
    });
    expect(status.reports.every(({ lines, booked }: Json) => lines === booked)).toBe(true);
    expect((await shop.call("POST", "/reports", {})).json).toEqual({ id: null });
    const mails = await shop.get("/mails");
    expect(mails.some(({ to }: Json) => to === "accounting@shop.example")).toBe(true);
  });

  test("mail that is turned away is tried again, told with its errors, and delivered once", async () => {
    await turn(shop, "mail-down", true);
    const id = await order(shop, { email: "late@one.example" });
    orders += 1;
    await eventually(async () => {
      const { messages } = await shop.get(`/orders/${id}`);
      const [mail] = messages.find(({ name }: Json) => name === "SendEmail")?.receivers ?? [];
      expect(mail).toMatchObject({ state: "retrying", dueAt: expect.any(String) });
      expect(mail.failures[0]).toMatchObject({ attempt: 1, error: expect.stringContaining("451") });
      return true;
    });
    expect(station(await shop.get("/status"), "email")).toMatchObject({ dead: 0 });
    await turn(shop, "mail-down", false);
    await settled(shop, orders);
    expect((await shop.get(`/orders/${id}`)).mails).toMatchObject([{ deliveries: 1 }]);
  });

  test("while pricing is silent, the question fails at its deadline and the order is taken at the list price", async () => {
    await turn(shop, "pricing-down", true);
    const { status, json } = await shop.call("GET", "/price/WAX-3");
    expect([status, json.title]).toEqual([503, "Service Unavailable"]);
    const id = await order(shop, { sku: "WAX-3" });
    orders += 1;
    expect(await shop.get(`/orders/${id}`)).toMatchObject({ cents: 1500, priceConfirmed: false });
    await turn(shop, "pricing-down", false);
    expect(await shop.get("/price/WAX-3")).toMatchObject({ sku: "WAX-3", cents: 1275 });
    expect(await settled(shop, orders)).toMatchObject({ atListPrice: 1 });
  });

  test("a form that is sent twice at once, and again later, is one order with one payment", async () => {
    const headers = { "content-type": "application/json", "idempotency-key": randomUUID() };
    const body = JSON.stringify({ ...wish, email: "twice@one.example" });
    const send = () => shop.raw("/orders", { method: "POST", body, headers });
    const answers = [...(await Promise.all([send(), send(), send()])), await send()];
    orders += 1;
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    await settled(shop, orders);
    expect(await shop.get("/search?q=twice")).toMatchObject({ total: 1 });
  });

  test("who orders what is sold out waits in line while other articles go on, and each is served in turn", async () => {
    await turn(shop, "sold-out", true);
    const horns: string[] = [];
    for (let n = 0; n < 3; n += 1) horns.push(await order(shop, { sku: "HORN-1" }));
    const pen = await order(shop, { sku: "PEN-7" });
    orders += 4;
    const pieceOf = async (id: string) => (await shop.get(`/orders/${id}`)).piece;
    await eventually(async () => expect(await pieceOf(pen)).toEqual(expect.any(Number)));
    const last = await eventually(async () => {
      const { messages } = await shop.get(`/orders/${horns[2]}`);
      const pick = messages.find(({ name }: Json) => name === "PickPiece");
      expect(pick.receivers).toMatchObject([{ name: "warehouse", state: "parked" }]);
      return pick.id;
    });
    expect(await posthorn(built, place, "why", last)).toContain(
      "waits behind 2 messages of key 'HORN-1' in 'warehouse'",
    );
    // What is counted for everybody at once may have been counted before the last order.
    await eventually(async () => {
      const { shelves } = await shop.get("/status");
      expect(shelves.map(({ sku, waiting }: Json) => [sku, waiting])).toContainEqual(["HORN-1", 3]);
      return true;
    });
    expect(await Promise.all(horns.map(pieceOf))).toEqual([null, null, null]);
    await turn(shop, "sold-out", false);
    await settled(shop, orders);
    const [first = 0, ...others] = await Promise.all(horns.map(pieceOf));
    expect(others).toEqual([first + 1, first + 2]);
  });

  test("a survey tells how far it is and what came of it, one that is taken back stops, and a full queue says when to come back", async () => {
    const ask = () => shop.call("POST", "/surveys", {});
    const stateOf = async (id: string) => (await shop.get(`/surveys/${id}`)).state;
    const first = await ask();
    expect([first.status, first.headers.get("location")]).toEqual([202, `/surveys/${first.json.id}`]);
    await eventually(async () => expect((await shop.get("/surveys"))[0].progress).toBeGreaterThan(0));
    const waiting: string[] = [];
    const refused = await eventually(async () => {
      const { status, headers, json } = await ask();
      if (status === 202) waiting.push(json.id);
      expect({ status, type: headers.get("content-type") }).toEqual({ status: 503, type: "application/problem+json" });
      return headers;
    });
    expect(Number(refused.get("retry-after"))).toBeGreaterThanOrEqual(1);
    // On a slow machine those before may be over by now: at the refusal the last three waited.
    const taken = waiting.slice(-3);
    const answers = await Promise.all(taken.map((id) => shop.call("DELETE", `/surveys/${id}`)));
    for (const { json } of answers) expect(["cancelled", "signalled"]).toContain(json.answer);
    for (const id of taken) await eventually(async () => expect(await stateOf(id)).toBe("cancelled"));
    expect(await posthorn(built, place, "status")).toMatch(/surveys.*full at 3 waiting messages/s);
    const { result } = await eventually(async () => {
      const survey = await shop.get(`/surveys/${first.json.id}`);
      expect(survey.state).toBe("succeeded");
      return survey;
    });
    expect(result.orders).toBe(orders);
    expect((await shop.call("DELETE", `/surveys/${first.json.id}`)).json).toEqual({ answer: "too-late" });
    await settled(shop, orders);
  });

  test("the command line tells the limits of the queues", async () => {
    const { lines } = JSON.parse(await posthorn(built, place, "status", "--json"));
    const limitsOf = (queue: string) => lines.find(({ name }: Json) => name === queue).limits;
    expect(limitsOf("email")).toMatchObject({ rateLimit: { messages: 100, perMs: 1_000 } });
    expect(limitsOf("surveys")).toMatchObject({
      fleetConcurrency: 1,
      backlogLimit: { messages: 3, whenFull: "reject" },
    });
    expect(await posthorn(built, place, "policy", "warehouse")).toContain("in order within each key");
  });

  test.each(["payment-answers-lost", "payment-slow"])(
    "a payment is asked for again and charged once: %s",
    async (name) => {
      const before = effect(await shop.get("/status"), "charges").noticed;
      await turn(shop, name, true);
      const id = await order(shop);
      orders += 1;
      const status = await settled(shop, orders);
      await turn(shop, name, false);
      expect(effect(status, "charges").noticed).toBeGreaterThan(before);
      const payment = (await shop.get(`/orders/${id}`)).messages.find(({ name }: Json) => name === "CapturePayment");
      expect(payment.receivers).toMatchObject([{ name: "payments", state: "succeeded" }]);
    },
  );

  test("every message delivered twice, effects are there once, and the other side notices the second by its key", async () => {
    const before = await shop.get("/status");
    await turn(shop, "delivered-twice", true);
    await order(shop);
    orders += 1;
    const status = await settled(shop, orders);
    await turn(shop, "delivered-twice", false);
    for (const name of ["mails", "charges", "webhooks"]) {
      expect([name, effect(status, name).noticed - effect(before, name).noticed]).toEqual([name, 1]);
    }
  });

  test("many orders from one click, with every switch on and the process killed in the middle, are placed once each", async () => {
    const troubles = ["mail-down", "payment-answers-lost", "sold-out", "delivered-twice"];
    for (const name of troubles) await turn(shop, name, true);
    const wish = { sku: "HORN-1", email: "many@one.example", postalCode: "20095", count: many };
    expect((await shop.call("POST", "/imports", wish)).status).toBe(202);
    orders += wish.count;
    await turn(shop, "kill", true);
    expect(await shop.ended()).toBe("SIGKILL");
    shop = shop.returning(await Shop.start(built, place.database));
    expect((await shop.get("/status")).troubles).toMatchObject({ "mail-down": true, kill: false });
    for (const name of troubles) await turn(shop, name, false);
    const status = await settled(shop, orders, 180_000);
    expect(status.imports).toMatchObject([{ total: many, placed: many }]);
    expect(await shop.get(`/search?q=customer-${many}`)).toMatchObject({ total: 1 });
  }, 240_000);

  test("finishes and ends with 0 on SIGTERM", async () => {
    await order(shop);
    orders += 1;
    expect(await shop.end("SIGTERM")).toBe(0);
    shop = shop.returning(await Shop.start(built, place.database));
    await settled(shop, orders);
  });
});

describe("the counters of the shop", () => {
  let place: Place;
  let shop: Shop;
  let client: Client;

  beforeAll(async () => {
    place = await onServer();
    shop = await Shop.start(built, place.database);
    client = new Client({ connectionString: place.database });
    await client.connect();
  });
  afterAll(async () => {
    await client?.end();
    await shop?.end();
    await place?.remove();
  });

  test("tell what is lost and what is repeated when somebody breaks it behind the shop's back", async () => {
    await order(shop);
    await order(shop);
    await settled(shop, 2);
    await shop.call("POST", "/reports", {});
    await eventually(async () => expect(effect(await shop.get("/status"), "reports").there).toBe(2));
    const first = "(select id from shop.placed_order order by n limit 1)";
    const second = "(select id from shop.placed_order order by n desc limit 1)";
    for (const [table, column] of [
      ["outside.charge", "order_id"],
      ["outside.webhook", "order_id"],
      ["shop.search_document", "order_id"],
      ["shop.shipment", "order_id"],
      ["shop.piece", "order_id"],
    ]) {
      await client.query(`delete from ${table} where ${column} = ${first}`);
    }
    await client.query(`delete from outside.mail where about = ${first}::text`);
    await client.query(`delete from outside.accounting_line where order_id = ${first}`);
    await client.query("update shop.piece set number = 7");
    await client.query("update shop.sales_figure set orders = orders + 1");
    await client.query(`insert into outside.charge values ('ch_x', 'x', ${second}, 1, 1)`);
    await client.query(`insert into shop.ledger_line (order_id, charge_id, cents) values (${second}, 'ch_x', 1)`);
    await eventually(async () =>
      expect(wrong(await shop.get("/status"))).toEqual([
        "mails lost 1",
        "charges lost 1",
        "charges repeated 1",
        "webhooks lost 1",
        "documents lost 1",
        "shipments lost 1",
        "pieces lost 1",
        "bookings repeated 1",
        "figures repeated 1",
        "reports lost 1",
      ]),
    );
    expect((await shop.get("/status")).outOfTurn).toBe(1);
  });

  test("do not count as lost what is still on its way or a dead letter", async () => {
    await turn(shop, "mail-down", true);
    const before = effect(await shop.get("/status"), "mails").lost;
    await order(shop);
    await eventually(async () => expect(station(await shop.get("/status"), "email").retrying).toBe(1));
    expect(effect(await shop.get("/status"), "mails")).toMatchObject({ wanted: 3, there: 1, lost: before });
  });
});
