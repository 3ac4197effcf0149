import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type BuiltShop, buildShop, Shop } from "../examples/shop.js";
import { eventually } from "../support/eventually.js";
import { poorContrasts } from "./contrast.js";

const withinMs = 15_000;

let built: BuiltShop;
let folder: string;
let shop: Shop;
let browser: Browser;

beforeAll(async () => {
  built = await buildShop();
  folder = await mkdtemp(join(tmpdir(), "posthorn-browser-"));
  shop = await Shop.start(built, `embedded:${folder}`);
  // Chromium refuses to run as root with its sandbox.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: process.env.POSTHORN_TEST_BROWSER ?? "chromium", args });
});
afterAll(async () => {
  await browser?.close();
  await shop?.end();
  await rm(folder, { recursive: true, force: true });
  await built?.remove();
});

interface Look {
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
}

/** A page that fails the test when it complains on its console or loads from elsewhere. */
async function open({ width, height, colorScheme }: Look): Promise<Page> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(shop.url)) complaints.push(request.url());
  });
  onTestFinished(async () => {
    await context.close();
    expect(complaints).toEqual([]);
  });
  await page.goto(shop.url);
  return page;
}

test.each([
  ["light", { width: 1320, height: 860, colorScheme: "light" }],
  ["dark", { width: 1320, height: 860, colorScheme: "dark" }],
  ["on a phone", { width: 360, height: 740, colorScheme: "light" }],
] as const)("an order that is placed in the page leads to a mail in the page: %s", async (name, look) => {
  const page = await open(look);
  const address = `${name.replaceAll(" ", "-")}@page.example`;
  await page.getByRole("radio", { name: /Sealing wax/ }).check();
  await page.getByText("€12.75", { exact: true }).first().waitFor({ timeout: withinMs });
  await page.getByLabel("Your e-mail address").fill(address);
  await page.getByRole("button", { name: "Place the order" }).click();

  const order = page.locator(".order", { hasText: address });
  const mail = page.locator(".mail", { hasText: address });
  await mail.waitFor({ timeout: withinMs });
  expect(await mail.locator("h3").textContent()).toBe("Your order: Sealing wax");
  await eventually(
    async () => expect(await order.locator(".state").allTextContents()).toEqual(["succeeded", "succeeded"]),
    { withinMs },
  );
  expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
  expect(await page.evaluate(poorContrasts)).toEqual([]);
});

test("an order can be placed with the keyboard alone", async () => {
  const page = await open({ width: 1320, height: 860, colorScheme: "light" });
  await page.getByRole("radio").first().waitFor({ timeout: withinMs });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("ArrowDown");
  await page.getByText("€42.00", { exact: true }).first().waitFor({ timeout: withinMs });
  await page.keyboard.press("Tab");
  await page.keyboard.type("keys@page.example");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator(".mail", { hasText: "keys@page.example" }).waitFor({ timeout: withinMs });
});

test("a refused order says what is wrong beside the field, and the cursor is there", async () => {
  const context = await browser.newContext();
  onTestFinished(() => context.close());
  const page = await context.newPage();
  await page.goto(shop.url);
  await page.getByRole("radio").first().check({ timeout: withinMs });
  const field = page.getByLabel("Your e-mail address");
  await field.fill("nobody");
  await page.keyboard.press("Enter");
  await page.getByText("This is not an e-mail address.").waitFor({ timeout: withinMs });
  expect(await field.getAttribute("aria-invalid")).toBe("true");
  expect(await page.evaluate("document.activeElement.id")).toBe("email");
});

test("the page tells that the shop is away, and goes on by itself when it is back", async () => {
  const context = await browser.newContext();
  onTestFinished(() => context.close());
  const page = await context.newPage();
  await page.goto(shop.url);
  await page.getByText("live", { exact: true }).waitFor({ timeout: withinMs });
  const shown = await page.locator(".order").count();
  const { port } = new URL(shop.url);
  await shop.end("SIGKILL");
  await page.getByText("no answer, trying again").waitFor({ timeout: withinMs });
  shop = await Shop.start(built, `embedded:${folder}`, Number(port));
  await page.getByText("live", { exact: true }).waitFor({ timeout: withinMs });
  expect(await page.locator(".order").count()).toBe(shown);
});
