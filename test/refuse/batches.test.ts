/** What a handler of many is refused with, where it is declared. No database is opened. */
import { command, type Post, policies, posthorn, type } from "posthorn";
import { afterAll, describe, expect, test } from "vitest";
import { thrown } from "../core/thrown.js";

const anything = type<unknown>();
// Never opened: nothing here gets that far.
const post: Post<unknown> = posthorn({ service: "batches", database: "postgres://nobody@127.0.0.1:1/none" });
afterAll(() => post.stop());
const whole = { ...policies.email };

describe("a handler of many", () => {
  const DoThing = command("DoThing", { queue: "many", schema: anything });
  const batch = { size: 10, maxWaitMs: 1_000 };
  const handler = (): void => undefined;
  const handleMany = (queue: { handleMany: unknown }, contract: unknown, options: unknown, given: unknown = handler) =>
    thrown(() => (queue.handleMany as (...given: unknown[]) => void).call(queue, contract, options, given));
  let queues = 0;
  const fresh = (policy: object = {}) => {
    queues += 1;
    const name = `many-${queues}`;
    const contract = (fields: object = {}) => command("DoThing", { queue: name, schema: anything, ...fields } as never);
    return { queue: post.queue(name, { ...whole, ...policy }), contract };
  };

  test.each([
    ["no options", undefined, "PH_OPTION_INVALID", /^handleMany\(DoThing\) takes an object of options/],
    ["no size", { maxWaitMs: 0 }, "PH_OPTION_MISSING", /lacks the option size/],
    ["no longest wait", { size: 10 }, "PH_OPTION_MISSING", /lacks the option maxWaitMs/],
    ["a batch of one", { ...batch, size: 1 }, "PH_OPTION_INVALID", /size must be an integer from 2 to 1000/],
    ["too large a batch", { ...batch, size: 1_001 }, "PH_OPTION_INVALID", /size must be an integer from 2 to 1000/],
    ["half a message", { ...batch, size: 2.5 }, "PH_OPTION_INVALID", /size must be an integer/],
    ["a wait below zero", { ...batch, maxWaitMs: -1 }, "PH_OPTION_INVALID", /maxWaitMs must be an integer from 0/],
    ["too long a wait", { ...batch, maxWaitMs: 600_001 }, "PH_OPTION_INVALID", /maxWaitMs must be .* to 600000/],
    ["an unknown option", { ...batch, maxWait: 1 }, "PH_OPTION_UNKNOWN", /maxWait.*maxWaitMs/],
  ])("is refused with %s", (_what, options, code, message) => {
    const { queue, contract } = fresh();
    const error = handleMany(queue, contract(), options);
    expect([error.name, error.code]).toEqual(["ConfigurationError", code]);
    expect(error.message).toMatch(message);
  });

  test("takes the smallest and the largest batch and wait", () => {
    for (const options of [
      { size: 2, maxWaitMs: 0 },
      { size: 1_000, maxWaitMs: 600_000 },
    ]) {
      const { queue, contract } = fresh();
      expect(queue.handleMany(contract() as never, options, handler)).toBe(queue);
    }
  });

  test("is refused where order is kept per key, because the others of a key have run when one fails", () => {
    const { queue, contract } = fresh({ ordering: { per: "key", whenDead: "park" } });
    const error = handleMany(queue, contract({ key: () => "k" }), batch);
    expect([error.name, error.code]).toEqual(["ConfigurationError", "PH_OPTION_INVALID"]);
    expect(error.message).toMatch(/keeps order per key, and handleMany\(\) cannot: .* Use handle\(\)/);
  });

  test("is refused for a command with a result, which belongs to one message", () => {
    const { queue, contract } = fresh();
    const error = handleMany(queue, contract({ result: anything }), batch);
    expect([error.name, error.code]).toEqual(["ConfigurationError", "PH_OPTION_INVALID"]);
    expect(error.message).toMatch(/DoThing has a result, which belongs to one message/);
  });

  test("is refused where it is no function, and beside a handler of one for the same contract", () => {
    const { queue, contract } = fresh();
    expect(handleMany(queue, contract(), batch, {}).message).toMatch(
      /handleMany\(DoThing, …\) takes a function as its third argument/,
    );
    queue.handle(contract() as never, handler);
    expect(handleMany(queue, contract(), batch).code).toBe("PH_DECLARED_TWICE");
    const other = fresh();
    other.queue.handleMany(other.contract() as never, batch, handler);
    expect(thrown(() => other.queue.handle(other.contract() as never, handler)).code).toBe("PH_DECLARED_TWICE");
    expect(handleMany(other.queue, DoThing, batch).code).toBe("PH_WRONG_CHANNEL");
  });

  test("is no option of the policy", () => {
    expect(thrown(() => post.queue("batched", { ...whole, batch } as never)).code).toBe("PH_OPTION_UNKNOWN");
  });
});
