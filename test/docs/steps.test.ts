/** The example of docs/guides/steps.md, run. */
import { expect, test } from "vitest";
import { command, policies, posthorn, retry, type } from "../../src/index.js";
import { createDatabase } from "../support/server.js";

const ShipOrder = command("ShipOrder", { queue: "shipping", schema: type<{ orderId: string; cents: number }>() });

test("the example of the guide about steps charges once and books one parcel, although the carrier fails at first", async () => {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "guide", database: url, migrate: "auto" });
  const shipping = post.queue("shipping", { ...policies.payment, retry: retry.fixed({ attempts: 5, delayMs: 10 }) });
  const charges: { cents: number; key: string }[] = [];
  const payments = {
    charge: async (cents: number, key: string) => ({ id: `ch_${charges.push({ cents, key })}` }),
  };
  const parcels: string[] = [];
  let down = true;
  const carrier = {
    book: async (orderId: string, _key: string) => {
      if (down) {
        down = false;
        throw new Error("the carrier does not answer");
      }
      return { tracking: `P${parcels.push(orderId)}` };
    },
  };
  const mails: string[] = [];
  const mailer = { send: async (text: string) => void mails.push(text) };
  try {
    shipping.handle(ShipOrder, async ({ orderId, cents }, { step, idempotencyKey }) => {
      const charge = await step("charge", () => payments.charge(cents, idempotencyKey("charge")));
      const parcel = await step("parcel", () => carrier.book(orderId, idempotencyKey("parcel")));
      await step("mail", () => mailer.send(`${orderId}: paid by ${charge.id}, on its way as ${parcel.tracking}`));
    });
    await post.start();
    const receipt = await post.send(ShipOrder, { orderId: "A1", cents: 1_999 });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(charges).toEqual([{ cents: 1_999, key: expect.stringMatching(/^[0-9a-f]{32}$/) }]);
    expect(parcels).toEqual(["A1"]);
    expect(mails).toEqual(["A1: paid by ch_1, on its way as P1"]);
  } finally {
    await post.stop();
    await drop();
  }
});
