import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import {
  desk,
  expectAllIsWell,
  expectReadable,
  placeOrder,
  Stage,
  sayingOfLink,
  stepOf,
  tile,
  tileNow,
  turnSwitch,
  withinMs,
} from "./page.js";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});
afterAll(() => stage?.close());

/** The cards that cut off what is in them, when every figure has five digits and every line is there. */
const tooWide = `(() => {
  for (const line of document.querySelectorAll(".line")) line.hidden = false;
  for (const figure of document.querySelectorAll(".line td.number:not(.none), .line .effect b")) figure.textContent = "10,103";
  return [...document.querySelectorAll(".card")].filter((card) => card.scrollWidth > card.clientWidth).map(({ id }) => id);
})()`;

const turn = (name: string) => `[data-trouble="${name}"] [role="switch"]`;

test.each([
  ["light", desk],
  ["dark", { ...desk, colorScheme: "dark" }],
  ["on a phone", { width: 360, height: 740, colorScheme: "light" }],
] as const)(
  "an order is placed without registering, and the page shows the way of each of its messages: %s",
  async (name, look) => {
    const page = await stage.visit(look);
    const address = `${name.replaceAll(" ", "-")}@page.example`;
    await page.getByRole("radio", { name: /Sealing wax/ }).check();
    await page.getByText("€12.75", { exact: true }).first().waitFor({ timeout: withinMs });
    await placeOrder(page, address);
    await page.locator(".letter", { hasText: "Your order: Sealing wax" }).waitFor({ timeout: withinMs });
    await eventually(
      async () =>
        expect(await page.locator(".route .step > .state").allTextContents()).toEqual([
          "answered",
          ...Array.from({ length: 10 }, () => "succeeded"),
        ]),
      { withinMs },
    );
    await page.locator('.line[data-name="email"] button').click();
    await page.getByText("The mail server knows the Message-ID and drops the second.").waitFor({ timeout: withinMs });
    await expectAllIsWell(page);
    await expectReadable(page);
  },
);

test("a hundred orders from one click are counted on their way, and each is done once", async () => {
  const page = await stage.visit(desk);
  const before = await tileNow(page, "orders");
  await page.getByRole("button", { name: "Place 100" }).click();
  await eventually(async () => expect(await tile(page, "orders")).toBe(before + 100), { withinMs });
  await expectAllIsWell(page);
  await eventually(
    async () =>
      expect(await page.locator('.line[data-name="payments"] [data-count="done"]').textContent()).toBe(
        `${before + 100}`,
      ),
    { withinMs },
  );
  // The line of the imports is there now. It was wider than its card on most screens.
  for (const width of [1440, 1320, 1280, 1100, 1000, 900, 600, 390]) {
    await page.setViewportSize({ width, height: 860 });
    expect(await page.evaluate(tooWide), `${width} px`).toEqual([]);
    await expectReadable(page);
  }
  await page.setViewportSize({ width: desk.width, height: desk.height });
  await page.getByRole("searchbox").fill("customer-77");
  await page.getByText("1 found", { exact: true }).waitFor({ timeout: withinMs });
  expect(await page.locator(".orders .order-to").allTextContents()).toEqual(["customer-77@example.com"]);
}, 240_000);

test("a form that is sent twice at once is one order, and the page says so", async () => {
  const page = await stage.visit(desk);
  const before = await tileNow(page, "orders");
  await page.locator("#email").fill("twice-clicked@page.example");
  await page.getByRole("button", { name: "Click it twice at once" }).click();
  await page.getByText(/^Sent twice at once: one order, [0-9a-f]{8}\.$/).waitFor({ timeout: withinMs });
  await page.locator(".order", { hasText: "twice-clicked" }).waitFor({ timeout: withinMs });
  await expectAllIsWell(page);
  await eventually(
    async () => expect([await tile(page, "orders"), await page.locator(".order").count()]).toEqual([before + 1, 1]),
    { withinMs },
  );
});

describe("a switch shows what it says, and nothing is lost or repeated:", () => {
  test("mail server down", async () => {
    const page = await stage.visit(desk);
    await turnSwitch(page, "mail-down");
    await placeOrder(page, "mail-down@page.example");
    await stepOf(page, "SendEmail", "retrying").waitFor({ timeout: withinMs });
    await page.locator(".failures", { hasText: "451" }).waitFor({ timeout: withinMs });
    await page.getByText(/next attempt in \d+ s|next attempt now/).waitFor({ timeout: withinMs });
    await expectReadable(page);
    await turnSwitch(page, "mail-down");
    await stepOf(page, "SendEmail", "succeeded").waitFor({ timeout: withinMs });
    await expectAllIsWell(page);
  });

  test("pricing down", async () => {
    const page = await stage.visit(desk, { mayComplain: true });
    await turnSwitch(page, "pricing-down");
    await page.getByRole("radio", { name: /Sealing wax/ }).check();
    await page.getByText("PriceOf was not answered within 2 s.", { exact: false }).waitFor({ timeout: withinMs });
    await placeOrder(page, "pricing-down@page.example");
    await page.getByText("so the order was taken at the list price").waitFor({ timeout: withinMs });
    await page
      .locator('[data-trouble="pricing-down"]', { hasText: "1 at the list price" })
      .waitFor({ timeout: withinMs });
    await turnSwitch(page, "pricing-down");
    await expectAllIsWell(page);
  });

  test.each(["payment-slow", "payment-answers-lost"])("%s", async (name) => {
    const page = await stage.visit(desk);
    const before = await tileNow(page, "noticed");
    await turnSwitch(page, name);
    await placeOrder(page, `${name}@page.example`);
    // That it is tried again lasts for less than a second, which the page may pass over; what the service noticed stays.
    await eventually(async () => expect(await tile(page, "noticed")).toBeGreaterThan(before), { withinMs });
    await turnSwitch(page, name);
    await stepOf(page, "PaymentCaptured", "succeeded").waitFor({ timeout: withinMs });
    await expectAllIsWell(page);
  });

  test("post horns sold out", async () => {
    const page = await stage.visit(desk);
    await turnSwitch(page, "sold-out");
    for (const n of [1, 2]) await placeOrder(page, `sold-out-${n}@page.example`);
    await page.getByRole("radio", { name: /Fountain pen/ }).check();
    await placeOrder(page, "in-stock@page.example");
    await stepOf(page, "PickPiece", "succeeded").waitFor({ timeout: withinMs });
    await page.locator(".order", { hasText: "sold-out-2" }).click();
    await stepOf(page, "PickPiece", "parked").waitFor({ timeout: withinMs });
    const line = page.locator('.line[data-name="warehouse"]');
    await line.getByText("Post horn: 1 put off, 1 waits behind it").waitFor({ timeout: withinMs });
    await eventually(
      async () =>
        expect([
          await line.locator('[data-count="retrying"]').textContent(),
          await line.locator('[data-count="waiting"]').textContent(),
        ]).toEqual(["1", "1"]),
      { withinMs },
    );
    await expectReadable(page);
    await turnSwitch(page, "sold-out");
    await stepOf(page, "PickPiece", "succeeded").waitFor({ timeout: withinMs });
    await page.locator('[data-trouble="sold-out"]', { hasText: "0 out of turn" }).waitFor({ timeout: withinMs });
    await expectAllIsWell(page);
  });

  test("every message delivered twice", async () => {
    const page = await stage.visit(desk);
    const before = await tileNow(page, "noticed");
    await turnSwitch(page, "delivered-twice");
    await placeOrder(page, "twice@page.example");
    await eventually(async () => expect(await tile(page, "noticed")).toBeGreaterThanOrEqual(before + 3), { withinMs });
    await turnSwitch(page, "delivered-twice");
    await page.getByText("came 2 times, kept once").first().waitFor({ timeout: withinMs });
    await expectAllIsWell(page);
  });

  test("SIGKILL in mid-handler", async () => {
    const page = await stage.visit(desk, { mayComplain: true });
    const [lives, noticed] = [await tileNow(page, "lives"), await tile(page, "noticed")];
    const says = await sayingOfLink(page);
    await turnSwitch(page, "kill");
    await page.locator("#email").fill("kill@page.example");
    await page.getByRole("button", { name: "Place the order" }).click();
    await says("no answer, trying again");
    await page.getByText("live", { exact: true }).waitFor({ timeout: withinMs });
    await eventually(async () => expect(await tile(page, "lives")).toBe(lives + 1), { withinMs });
    await page.locator(`${turn("kill")}[aria-checked="false"]`).waitFor({ timeout: withinMs });
    await eventually(async () => expect(await tile(page, "noticed")).toBeGreaterThan(noticed), { withinMs });
    await expectAllIsWell(page);
  });
});

test("an order can be placed, followed and looked into with the keyboard alone", async () => {
  const page = await stage.visit(desk);
  const focused = () => page.evaluate("document.activeElement.outerHTML.slice(0, 200)");
  const tabTo = async (what: RegExp) => {
    for (let i = 0; i < 60 && !what.test(String(await focused())); i += 1) await page.keyboard.press("Tab");
    expect(await focused()).toMatch(what);
  };
  await tabTo(/type="radio"/);
  await page.keyboard.press("ArrowDown");
  await page.getByText("€42.00", { exact: true }).first().waitFor({ timeout: withinMs });
  await tabTo(/id="email"/);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("keys@page.example");
  await page.keyboard.press("Enter");
  await page.locator(".letter", { hasText: "keys@page.example" }).waitFor({ timeout: withinMs });
  await tabTo(/line-name/);
  await page.keyboard.press("Enter");
  await page.getByText("Is the result needed right now?").waitFor({ timeout: withinMs });
  await tabTo(/role="switch"/);
  for (const on of [true, false]) {
    await turnSwitch(page, "mail-down", () => page.keyboard.press("Space"));
    await page.locator(`${turn("mail-down")}[aria-checked="${on}"]`).waitFor({ timeout: withinMs });
  }
});

test("a refused order says what is wrong beside the field, and the cursor is there", async () => {
  const page = await stage.visit(desk, { mayComplain: true });
  await page.locator("#email").fill("nobody");
  await page.locator("#postalCode").fill("x");
  await page.keyboard.press("Enter");
  await page.getByText("This is not an e-mail address.").waitFor({ timeout: withinMs });
  await page.getByText("This is not a postal code of five digits.").waitFor({ timeout: withinMs });
  expect(await page.locator("#email").getAttribute("aria-invalid")).toBe("true");
  expect(await page.evaluate("document.activeElement.id")).toBe("email");
  await expectReadable(page);
});

test("Ada logs in with what the page tells, a wrong password is refused, and a newcomer registers and is welcomed by mail", async () => {
  const page = await stage.visit(desk, { mayComplain: true });
  await page.getByRole("button", { name: "Log in" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Password").fill("brass and envelope");
  await dialog.getByRole("button", { name: "Log in" }).click();
  await dialog.getByText("The e-mail address or the password is wrong.").waitFor({ timeout: withinMs });
  await expectReadable(page);
  await dialog.getByLabel("Password").fill("brass and envelopes");
  await dialog.getByRole("button", { name: "Log in" }).click();
  await page.locator("#who", { hasText: "ada@example.com" }).waitFor({ timeout: withinMs });
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("button", { name: "Log in" }).click();
  await dialog.getByLabel("E-mail").fill("new@page.example");
  await dialog.getByRole("button", { name: "Register" }).click();
  await page.locator("#who", { hasText: "new@page.example" }).waitFor({ timeout: withinMs });
  await page.locator(".mail", { hasText: "Welcome to the Post Shop" }).waitFor({ timeout: withinMs });
  await page.locator('.line[data-name="welcome"]').waitFor({ timeout: withinMs });
});
