/** The pictures in docs/images: the shop with orders on their way, while its mail server is down. Run by `npm run test:browser -- --screenshots`. */
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, test } from "vitest";
import { settled, turn, wish } from "../examples/books.js";
import { placeOrder, Stage, stepOf, withinMs } from "./page.js";

const folder = fileURLToPath(new URL("../../docs/images", import.meta.url));

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
  await mkdir(folder, { recursive: true });
  await turn(stage.shop, "payment-answers-lost", true);
  for (const [sku, count] of [
    ["PEN-7", 60],
    ["WAX-3", 90],
    ["HORN-1", 30],
  ]) {
    await stage.shop.call("POST", "/imports", { ...wish, sku, count });
  }
  await settled(stage.shop, 180, 60_000);
  await turn(stage.shop, "payment-answers-lost", false);
}, 90_000);
afterAll(() => stage?.close());

test.each([
  ["shop-light", { width: 1320, height: 1180, colorScheme: "light" }],
  ["shop-dark", { width: 1320, height: 1180, colorScheme: "dark" }],
  ["shop-phone", { width: 390, height: 844, colorScheme: "light" }],
] as const)("%s.png", async (name, look) => {
  const page = await stage.visit(look);
  const down = page.locator('[data-trouble="mail-down"] [role="switch"]');
  await down.click();
  await placeOrder(page, "ada@example.com");
  await stepOf(page, "SendEmail", "retrying").waitFor({ timeout: withinMs });
  await page
    .locator('.line[data-name="email"] [data-count="retrying"]', { hasText: "1" })
    .waitFor({ timeout: withinMs });
  const top = name === "shop-phone" ? "document.getElementById('books-title').offsetTop - 8" : "0";
  await page.evaluate(`scrollTo(0, ${top})`);
  await page.screenshot({ path: `${folder}/${name}.png` });
  await down.click();
  await stepOf(page, "SendEmail", "succeeded").waitFor({ timeout: withinMs });
});
