/**
 * Goal: whoever looks at what posthorn dev caught sees it at once, in every light and on a phone, and no foreign content runs.
 * Method: the catchers in this process, hostile content in them, and the page in a real browser.
 */
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { Caught } from "../../src/cli/dev/caught.js";
import { catchWebhooks, type WebCatcher } from "../../src/cli/dev/web.js";
import { poorContrasts } from "./contrast.js";

const timeout = 60_000;
const attack = `<script>top.attacked = true</script><img src="http://evil.example/x.png" onerror="top.attacked = true">`;

let browser: Browser;
let caught: Caught;
let catcher: WebCatcher;

beforeAll(async () => {
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: process.env.POSTHORN_TEST_BROWSER ?? "chromium", args });
  caught = new Caught();
  const port = { port: 0, asked: false, option: "web-port" };
  catcher = await catchWebhooks(caught, port, { smtpUrl: "smtp://127.0.0.1:1025" }, () => undefined);
});
afterAll(async () => {
  await browser?.close();
  await catcher?.close();
});

test.each([
  ["light", { viewport: { width: 1_200, height: 860 }, colorScheme: "light" }],
  ["dark", { viewport: { width: 1_200, height: 860 }, colorScheme: "dark" }],
  ["on a phone", { viewport: { width: 360, height: 740 }, colorScheme: "dark" }],
] as const)(
  "mails and webhooks appear by themselves, can be read and cleared, and run nothing: %s",
  async (_name, look) => {
    const context = await browser.newContext(look);
    onTestFinished(() => context.close());
    const page = await context.newPage();
    const loaded: string[] = [];
    page.on("requestfinished", (request) => loaded.push(request.url()));
    await page.goto(catcher.pageUrl);
    await page.getByText("No mail yet.").waitFor({ timeout });
    await page.getByText("live", { exact: true }).waitFor({ timeout });
    const attachments = [{ name: "invoice.pdf", type: "application/pdf", bytes: 2_000 }];
    const html = `<h1>Thank you</h1>${attack}`;
    const { id } = caught.mail({
      from: attack,
      to: ["ada@example.org"],
      subject: `Order ${attack}`,
      text: attack,
      html,
      attachments,
      source: "",
    });
    await fetch(`${catcher.hookUrl}/partner?status=503`, { method: "POST", body: JSON.stringify({ attack }) });

    const mail = page.locator(`#mail-${id}`);
    await mail.locator("summary").first().click({ timeout });
    await mail.frameLocator("iframe").getByRole("heading", { name: "Thank you" }).waitFor({ timeout });
    await page.getByText("answered 503").waitFor({ timeout });
    // What is open stays open when more arrives.
    caught.mail({
      from: "",
      to: ["bob@example.org"],
      subject: "Second",
      text: "x",
      html: null,
      attachments: [],
      source: "",
    });
    await page.getByText("Second", { exact: true }).waitFor({ timeout });
    expect(await mail.locator("details").first().getAttribute("open")).toBe("");

    expect(await page.evaluate("window.attacked")).toBe(undefined);
    expect(loaded.filter((url) => !url.startsWith(catcher.pageUrl) && !url.startsWith("data:"))).toEqual([]);
    expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
    expect(await page.evaluate(poorContrasts)).toEqual([]);
    await page.getByRole("button", { name: "Clear" }).click();
    await page.getByText("No mail yet.").waitFor({ timeout });
    await page.getByText("No webhook yet.").waitFor({ timeout });
  },
);
