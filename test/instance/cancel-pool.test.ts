import { command, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { homes } from "../producer/homes.js";
import { decisions } from "../producer/stage.js";
import { companyIn, gate } from "./company.js";

test("with a pool of 1, whose connection the handler's transaction holds, the handler is still asked to stop", async () => {
  const [home] = homes.filter(({ name }) => name === "a pool of 1");
  if (home === undefined) throw new Error("there is no such home");
  const company = await companyIn(home.open);
  onTestFinished(() => company.close());
  const DoWork = command("DoWork", { queue: "work", schema: type<object>() });
  const post = company.make();
  const begun = gate();
  post.queue("work", { ...decisions, idempotency: "transaction" }).handle(DoWork, async (_payload, { signal, tx }) => {
    await tx.query("select 1");
    begun.open();
    await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  await post.start();
  const receipt = await post.send(DoWork, {});
  await begun.opened;
  expect(await receipt.cancel()).toBe("signalled");
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "cancelled" });
});
