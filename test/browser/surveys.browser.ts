/** The surveys of the page, which take their time: a file of their own runs beside the others, with a shop of its own. */
import { afterAll, beforeAll, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { desk, expectAllIsWell, expectReadable, placeOrder, Stage, withinMs } from "./page.js";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});
afterAll(() => stage?.close());

test.each([
  ["light", desk],
  ["dark", { ...desk, colorScheme: "dark" }],
  ["on a phone", { width: 360, height: 740, colorScheme: "light" }],
] as const)(
  "a survey shows its progress and its result, one that waits is taken back, and a full queue says when to come back: %s",
  async (_name, look) => {
    const page = await stage.visit(look, { mayComplain: true });
    await placeOrder(page, "surveyed@page.example");
    await expectAllIsWell(page);
    const asked = (state: string) => page.locator(`.asked li[data-state="${state}"]`);
    const ask = page.getByRole("button", { name: "Survey the regions" });
    const isSeenToRun = async () => {
      // The one before may have been over before the page looked.
      if ((await asked("running").or(asked("queued")).count()) === 0) await ask.click();
      const progress = asked("running").locator("progress");
      return Number(await progress.getAttribute("value", { timeout: 1_000 })) > 0;
    };
    await eventually(isSeenToRun, { withinMs });
    const isRefused = async () => {
      const answer = page.waitForResponse((one) => one.request().method() === "POST", { timeout: withinMs });
      const [answered] = await Promise.all([answer, ask.click()]);
      return answered.status() === 503;
    };
    await eventually(isRefused, { withinMs });
    const full = /^\d wait already, and more would wait for long\. Try again in \d+ s\.$/;
    await page.getByText(full).waitFor({ timeout: withinMs });
    await asked("queued").first().waitFor({ timeout: withinMs });
    await expectReadable(page);
    await eventually(
      async () => {
        const back = page.locator(".asked").getByRole("button", { name: "Take back" });
        for (const button of await back.all()) await button.click({ timeout: 1_000 });
        return (await back.count()) === 0;
      },
      { withinMs },
    );
    await asked("cancelled").first().waitFor({ timeout: withinMs });
    await ask.click();
    await asked("succeeded").first().waitFor({ timeout: withinMs });
    await page.locator("#survey-result dt", { hasText: "Berlin" }).first().waitFor({ timeout: withinMs });
    await expectReadable(page);
  },
  120_000,
);
