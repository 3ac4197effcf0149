import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseSource } from "../architecture/sources.js";
import { createProject, install, type Project } from "./installed.js";

/** A package that two services share: it says what is said, with a schema library of its own choice. */
const contracts = `
import { command, event, query, type } from "posthorn";
import { z } from "zod";

export const PriceOf = query("PriceOf", {
  request: z.object({ sku: z.string() }),
  response: z.object({ cents: z.number().int() }),
  deadlineMs: 300,
});
export const SendEmail = command("SendEmail", {
  queue: "email",
  schema: z.object({ orderId: z.string(), to: z.string(), copies: z.number().default(1) }),
  result: z.object({ messageId: z.string() }),
});
export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: z.object({ orderId: z.string(), at: z.string().transform((text) => new Date(text)) }),
  key: (order) => order.orderId,
});
export const Ping = command("Ping", { queue: "email", schema: type<{ n: number }>() });
`;

/** A service that uses them and has no schema library at all. */
const service = `
import type { InputOf, OutputOf } from "posthorn";
import { OrderPlaced, Ping, SendEmail } from "contracts";

export const input: InputOf<typeof SendEmail> = { orderId: "1", to: "a@b.c" };
export const output: OutputOf<typeof SendEmail> = { orderId: "1", to: "a@b.c", copies: 2 };
export const at = (order: OutputOf<typeof OrderPlaced>): number => order.at.getTime();
export const kinds: readonly ["event", "command"] = [OrderPlaced.kind, Ping.kind];
// @ts-expect-error the number of copies has a default in the input only
export const lacking: OutputOf<typeof SendEmail> = { orderId: "1", to: "a@b.c" };
// @ts-expect-error a number is not an order id
export const wrong: InputOf<typeof SendEmail> = { orderId: 1, to: "a@b.c" };
`;

let author: Project;
let user: Project;

beforeAll(async () => {
  [author, user] = await Promise.all([createProject(), createProject()]);
  await install(author, "npm install posthorn zod");
  await author.write("index.ts", contracts);
  const manifest = { name: "contracts", version: "1.0.0", type: "module", exports: "./index.js" };
  await author.write("package.json", JSON.stringify(manifest));
}, 180_000);
afterAll(() => Promise.all([author.remove(), user.remove()]));

test("the declarations of a contracts package import posthorn alone, and a service without its schema library compiles", async () => {
  expect(await author.compile("--declaration", "--outDir", "out", "--skipLibCheck", "index.ts")).toBe("");
  const declarations = await author.read("out/index.d.ts");
  const imported = parseSource("out/index.d.ts", declarations).imports.map(({ specifier }) => specifier);
  expect([...new Set(imported)]).toEqual(["posthorn"]);

  const modules = join(user.folder, "node_modules");
  await mkdir(join(modules, "contracts"), { recursive: true });
  await cp(join(author.folder, "node_modules/posthorn"), join(modules, "posthorn"), { recursive: true });
  await cp(join(author.folder, "out"), join(modules, "contracts"), { recursive: true });
  await cp(join(author.folder, "package.json"), join(modules, "contracts/package.json"));
  await user.write("service.ts", service);
  expect(await user.compile("--noEmit", "service.ts")).toBe("");
});
