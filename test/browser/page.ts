/** The shop under its supervisor, and pages of it in a browser. */
import { type Browser, chromium, type Page } from "playwright-core";
import { expect, onTestFinished } from "vitest";
import { type BuiltShop, buildShop, embedded, neighbours, type Place, Shop } from "../examples/shop.js";
import { eventually } from "../support/eventually.js";
import { poorContrasts } from "./contrast.js";

/** Costs nothing when the page is quick; a mail that was turned away a few times is tried again after up to a minute. */
export const withinMs = 70_000;

export interface Look {
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
}

export const desk: Look = { width: 1320, height: 860, colorScheme: "light" };

export class Stage {
  readonly shop: Shop;
  readonly #built: BuiltShop;
  readonly #place: Place;
  readonly #browser: Browser;

  private constructor(shop: Shop, built: BuiltShop, place: Place, browser: Browser) {
    this.shop = shop;
    this.#built = built;
    this.#place = place;
    this.#browser = browser;
  }

  static async open(): Promise<Stage> {
    const built = await buildShop();
    const [place, beside] = await Promise.all([embedded(), neighbours()]);
    const shop = await Shop.start(built, place.database, { program: "shop/supervise.js", env: beside.env });
    const places = {
      database: place.database,
      remove: async () => void (await Promise.all([place.remove(), beside.remove()])),
    };
    // Chromium refuses to run as root with its sandbox.
    const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
    const executablePath = process.env.POSTHORN_TEST_BROWSER ?? "chromium";
    return new Stage(shop, built, places, await chromium.launch({ executablePath, args }));
  }

  async close(): Promise<void> {
    await this.#browser.close();
    await this.shop.end("SIGTERM");
    await this.#place.remove();
    await this.#built.remove();
  }

  /** A page that fails the test when it complains on its console or loads from elsewhere. A browser complains of refusals by itself. */
  async visit({ width, height, colorScheme }: Look, { mayComplain = false } = {}): Promise<Page> {
    const context = await this.#browser.newContext({ viewport: { width, height }, colorScheme });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (!mayComplain && ["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(this.shop.url)) complaints.push(request.url());
    });
    onTestFinished(async () => {
      await context.close();
      expect(complaints).toEqual([]);
    });
    await page.goto(this.shop.url);
    await page.getByText("live", { exact: true }).waitFor({ timeout: withinMs });
    return page;
  }
}

const cutOff = `[...document.querySelectorAll(".card")].filter((card) => card.scrollWidth > card.clientWidth).map((card) => card.className + " " + card.id)`;

/** Every text can be read, and nothing is wider than the screen. */
export async function expectReadable(page: Page): Promise<void> {
  expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
  // A card hides what is wider than itself.
  expect(await page.evaluate(cutOff)).toEqual([]);
  expect(await page.evaluate(poorContrasts)).toEqual([]);
}

export async function placeOrder(page: Page, email: string): Promise<void> {
  await page.locator("#email").fill(email);
  await page.getByRole("button", { name: "Place the order" }).click();
  await page.locator(".order", { hasText: email }).first().waitFor({ timeout: withinMs });
}

/** Turns a switch of the page by a click, or by what is given, and waits until the shop has turned it: the page shows it turned before that. */
export async function turnSwitch(page: Page, name: string, act?: () => Promise<void>): Promise<void> {
  const answer = page.waitForResponse((one) => one.url().endsWith(`/troubles/${name}`), { timeout: withinMs });
  const click = () => page.locator(`[data-trouble="${name}"] [role="switch"]`).click();
  await Promise.all([answer, (act ?? click)()]);
}

/** Waits until the page says this of its link to the shop. It looks again and again, and what it says for a moment only is not missed. */
export async function sayingOfLink(page: Page): Promise<(text: string) => Promise<void>> {
  await page.evaluate(`(() => {
    const link = document.getElementById("link");
    globalThis.linkSaid = [];
    new MutationObserver(() => linkSaid.push(link.textContent)).observe(link, { childList: true });
  })()`);
  const look = `document.dispatchEvent(new Event("visibilitychange")), linkSaid`;
  return async (text) => {
    await eventually(async () => ((await page.evaluate(look)) as readonly string[]).includes(text), { withinMs });
  };
}

/** The way of the chosen order: "SendEmail command → email: succeeded". */
export function stepOf(page: Page, message: string, state: string) {
  return page.locator(`.step[data-state="${state}"]`, { hasText: message });
}

/** A figure of the books. */
export async function tile(page: Page, name: string): Promise<number> {
  const text = await page.locator(`[data-tile="${name}"] dd`).textContent();
  return Number(text?.replaceAll(",", ""));
}

/** A figure of the books, of a count that began after this was asked. The shop counts for everybody at once, and seldom while it is busy. */
export async function tileNow(page: Page, name: string): Promise<number> {
  await countedAfter(page, Date.now());
  return tile(page, name);
}

async function countedAfter(page: Page, moment: number): Promise<void> {
  const countedAt = async () => Date.parse((await page.locator("#tiles").getAttribute("data-counted-at")) ?? "");
  await eventually(async () => (await countedAt()) > moment, { withinMs });
}

/** Waits until nothing is on its way; nothing is lost and nothing repeated, there and beside every switch. */
export async function expectAllIsWell(page: Page): Promise<void> {
  await countedAfter(page, Date.now());
  await page.locator('[data-tile="on their way"] dd', { hasText: /^0$/ }).waitFor({ timeout: withinMs });
  expect([await tile(page, "lost"), await tile(page, "repeated"), await tile(page, "dead letters")]).toEqual([0, 0, 0]);
  expect(await page.locator('[data-wrong="true"]').count()).toBe(0);
}
