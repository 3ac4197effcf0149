import { type as ark } from "arktype";
import * as v from "valibot";
import { expect, it, describe as suite } from "vitest";
import { z } from "zod";
import { describe, isContract } from "../../src/contracts/contract.js";
import { command, event, query } from "../../src/contracts/define.js";
import { requireKind } from "../../src/contracts/require-kind.js";
import { isSchema, type } from "../../src/contracts/standard-schema.js";
import { thrown } from "../core/thrown.js";

const PriceOf = query("PriceOf", { request: type<string>(), response: type<number>(), deadlineMs: 300 });
const SendEmail = command("SendEmail", { queue: "email", schema: type<{ to: string }>() });
const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ orderId: string }>(),
  key: (order) => order.orderId,
  owner: "shop",
  version: 2,
});
/** Calls a definition function as JavaScript would. */
const loosely = (define: unknown, ...args: unknown[]): unknown =>
  Reflect.apply(define as () => unknown, undefined, args);
const refuse = (define: unknown, ...args: unknown[]) => thrown(() => loosely(define, ...args));

suite("contracts", () => {
  it("carry what the registry keeps", () => {
    expect(describe(PriceOf)).toEqual({
      kind: "query",
      name: "PriceOf",
      version: 1,
      channel: "",
      keyed: false,
      owner: null,
    });
    expect(describe(SendEmail)).toMatchObject({ kind: "command", channel: "email", keyed: false, version: 1 });
    expect(describe(OrderPlaced)).toEqual({
      kind: "event",
      name: "OrderPlaced",
      version: 2,
      channel: "orders",
      keyed: true,
      owner: "shop",
    });
    expect(PriceOf.deadlineMs).toBe(300);
  });

  it("are frozen, with their brand and what is inside it", () => {
    for (const part of [OrderPlaced, OrderPlaced["~posthorn"], OrderPlaced["~posthorn"].inside]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });

  it("are known by their brand; copies and look-alikes are not", () => {
    expect([PriceOf, SendEmail, OrderPlaced].every(isContract)).toBe(true);
    const forged = { ...OrderPlaced, channel: "other" };
    const evil = new Proxy(
      {},
      {
        has: () => {
          throw new Error("no");
        },
      },
    );
    const others = [forged, { kind: "event", name: "OrderPlaced", channel: "orders", "~posthorn": { version: 1 } }];
    expect([...others, evil, undefined, null, "OrderPlaced", 5, () => OrderPlaced, {}].filter(isContract)).toEqual([]);
  });

  it("take a schema of Zod, Valibot, ArkType or type<T>(), and refuse everything else", () => {
    expect([z.object({}), v.object({}), ark({ a: "string" }), type<string>()].every(isSchema)).toBe(true);
    for (const schema of [
      {},
      null,
      "z",
      () => true,
      { "~standard": 1 },
      { "~standard": { version: 2, validate: () => ({}) } },
    ]) {
      const error = refuse(event, "OrderPlaced", { topic: "orders", schema });
      expect(error.code).toBe("PH_OPTION_INVALID");
      expect(error.message).toMatch(/^OrderPlaced\.schema must be a Standard Schema, for instance of Zod/);
    }
  });

  it("refuse a name that reads as another kind, before anything else", () => {
    expect(refuse(event, "SendEmail", {}).code).toBe("PH_NAME_INVALID");
    expect(refuse(command, "OrderPlaced", {}).code).toBe("PH_NAME_INVALID");
    expect(refuse(query, "OrderPlaced", {}).code).toBe("PH_NAME_INVALID");
    expect(refuse(event, "x'; drop table y", {}).code).toBe("PH_NAME_INVALID");
    expect(refuse(event, undefined, {}).code).toBe("PH_NAME_INVALID");
  });

  it("refuse missing, unknown and unfit options", () => {
    const schema = type<string>();
    expect(refuse(event, "OrderPlaced").code).toBe("PH_OPTION_INVALID");
    expect(refuse(event, "OrderPlaced", {}).facts.missing).toEqual(["topic", "schema"]);
    expect(refuse(query, "PriceOf", {}).facts.missing).toEqual(["request", "response", "deadlineMs"]);
    expect(refuse(event, "OrderPlaced", { topic: "orders", shema: schema }).message).toContain(
      'Did you mean "schema"?',
    );
    expect(refuse(event, "OrderPlaced", { topic: "Orders; --", schema }).code).toBe("PH_NAME_INVALID");
    expect(refuse(command, "SendEmail", { queue: "email", schema, key: "to" }).message).toContain(
      'got the string "to"',
    );
    expect(refuse(command, "SendEmail", { queue: "email", schema, version: 0 }).message).toContain("SendEmail.version");
    expect(refuse(event, "OrderPlaced", { topic: "orders", schema, result: schema }).code).toBe("PH_OPTION_UNKNOWN");
    for (const deadlineMs of ["300", 0, -0, Number.NaN, 2 ** 53]) {
      expect(refuse(query, "PriceOf", { request: schema, response: schema, deadlineMs }).facts.path).toBe(
        "PriceOf.deadlineMs",
      );
    }
  });

  it("keep what was checked: an option that changes between two readings changes nothing", () => {
    let reads = 0;
    const definition = {
      schema: type<string>(),
      get queue(): string {
        reads += 1;
        return reads === 1 ? "email" : "'; drop table x";
      },
    };
    expect(command("SendEmail", definition).channel).toBe("email");
  });
});

suite("requireKind", () => {
  it("returns the contract where its kind is the wanted one", () => {
    expect(requireKind(OrderPlaced, "event", "publish")).toBe(OrderPlaced);
  });

  it.each([
    [SendEmail, "event", "publish", "publish() takes an event; SendEmail is a command: use send()."],
    [OrderPlaced, "command", "send", "send() takes a command; OrderPlaced is an event: use publish()."],
    [PriceOf, "command", "send", "send() takes a command; PriceOf is a query: use ask()."],
    [SendEmail, "query", "ask", "ask() takes a query; SendEmail is a command: use send()."],
    [OrderPlaced, "command", "sendMany", "sendMany() takes a command; OrderPlaced is an event: use publishMany()."],
    [
      OrderPlaced,
      "command",
      "handle",
      "handle() takes a command; OrderPlaced is an event: use on() of a subscription to its topic.",
    ],
    [SendEmail, "event", "on", "on() takes an event; SendEmail is a command: use handle() of its queue."],
    [SendEmail, "query", "answer", "answer() takes a query; SendEmail is a command: use handle() of its queue."],
    [
      undefined,
      "event",
      "publish",
      "publish() takes an event as its first argument, got undefined. Is its import missing or circular?",
    ],
    [
      "OrderPlaced",
      "event",
      "publish",
      'publish() takes an event as its first argument, got the string "OrderPlaced". Pass the contract itself, not its name: define it with event("…", { … }).',
    ],
    [
      { ...OrderPlaced },
      "event",
      "publish",
      "publish() takes an event as its first argument, got an object. It looks like one; a contract is passed as event() returned it, never copied or built by hand.",
    ],
    [
      5,
      "query",
      "ask",
      'ask() takes a query as its first argument, got the number 5. Define one with query("…", { … }) and pass what it returns.',
    ],
  ] as const)("%#: refuses and says what to do instead", (value, kind, verb, message) => {
    const error = thrown(() => requireKind(value, kind, verb));
    expect([error.name, error.code, error.message]).toEqual(["WrongKindError", "PH_WRONG_KIND", message]);
  });
});
