/**
 * Goal: the compiler's message for a wrong kind can be read, and the declarations of a contracts package name posthorn alone.
 * Method: small programs in a folder of their own, compiled by the real compiler with the declarations that users get.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

const contracts = `
import { command, event, query, type } from "posthorn";
import { type as ark } from "arktype";
import * as v from "valibot";
import { z } from "zod";
export const PriceOf = query("PriceOf", { request: z.object({ sku: z.string() }), response: z.object({ cents: z.number() }), deadlineMs: 300 });
export const SendEmail = command("SendEmail", { queue: "email", schema: v.object({ to: v.string() }), result: ark({ id: "string" }) });
export const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: ark({ orderId: "string", "at?": "string.date.parse" }), key: (o) => o.orderId });
export const UserLeft = event("UserLeft", { topic: "users", schema: type<{ id: string }>() });
`;
const head = `
import { policies, posthorn, retry } from "posthorn";
import { OrderPlaced, PriceOf, SendEmail, UserLeft } from "./contracts.js";
const post = posthorn({ service: "shop", database: "embedded:.posthorn" });
const mail = () => post.queue("mail", policies.email);
const letters = () => post.queue("email", policies.email);
const users = () => post.subscription("users", { topic: "users", ...policies.notify });
void [policies, retry, OrderPlaced, PriceOf, SendEmail, UserLeft, mail, letters, users];
`;
const wrong = {
  publishCommand: {
    line: `post.publish(SendEmail, { to: "a" });`,
    says: `'"command"' is not assignable to type '"event"'`,
  },
  publishQuery: { line: `post.publish(PriceOf, { sku: "a" });`, says: `'"query"' is not assignable to type '"event"'` },
  sendEvent: {
    line: `post.send(OrderPlaced, { orderId: "1" });`,
    says: `'"event"' is not assignable to type '"command"'`,
  },
  sendManyEvents: { line: `post.sendMany(OrderPlaced, []);`, says: `'"event"' is not assignable to type '"command"'` },
  askCommand: { line: `post.ask(SendEmail, { to: "a" });`, says: `'"command"' is not assignable to type '"query"'` },
  inTransaction: {
    line: `post.transaction(async ({ publish }) => publish(SendEmail, { to: "a" }));`,
    says: `'"command"' is not assignable to type '"event"'`,
  },
  wrongQueue: {
    line: `mail().handle(SendEmail, () => ({ id: "1" }));`,
    says: `'"email"' is not assignable to type '"mail"'`,
  },
  eventInQueue: { line: `mail().handle(UserLeft, () => {});`, says: `'"event"' is not assignable to type '"command"'` },
  wrongPayload: {
    line: `post.publish(OrderPlaced, { orderId: 5 });`,
    says: "'number' is not assignable to type 'string'",
  },
  delayedEvent: {
    line: `post.publish(OrderPlaced, { orderId: "1" }, { delayMs: 5 });`,
    says: "'delayMs' does not exist in type 'PublishOptions'",
  },
  eventResult: {
    line: `users().on(UserLeft, () => ({ id: "1" }));`,
    says: "is not assignable to type 'void | Promise<void>'",
  },
  missingResult: { line: `letters().handle(SendEmail, () => {});`, says: "'void' is not assignable to type" },
  noTransaction: { line: `users().on(UserLeft, (_, { tx }) => void tx);`, says: "'tx' does not exist on type" },
  retriedOnce: {
    line: `post.queue("q", { ...policies.atMostOnce, retry: retry.exponential({ attempts: 2, firstMs: 1, maxMs: 1 }) });`,
    says: "'ExponentialRetry' is not assignable to type 'NoRetry'",
  },
  halfPolicy: {
    line: `post.queue("q", { idempotency: "handler", retry: retry.none });`,
    says: "missing the following properties from type 'QueuePolicy<\"handler\">': ordering, visibilityTimeoutMs, deadLetter, alerts",
  },
};

let folder: string;
let output: string;

beforeAll(async () => {
  const cache = join(root, "node_modules", ".cache");
  await mkdir(cache, { recursive: true });
  folder = await mkdtemp(join(cache, "posthorn-types-"));
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await writeFile(join(folder, "contracts.ts"), contracts);
  for (const [name, { line }] of Object.entries(wrong)) await writeFile(join(folder, `${name}.ts`), `${head}${line}\n`);
  const config = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      outDir: "out",
      rootDir: root,
      paths: { posthorn: [join(root, "src", "index.ts")] },
    },
    include: ["*.ts"],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(config));
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  output = await promisify(execFile)(process.execPath, [tsc, "-p", folder, "--pretty", "false"]).then(
    ({ stdout }) => stdout,
    (error: { stdout?: string }) => error.stdout ?? String(error),
  );
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** The compiler's whole message about one file. */
function messageOf(name: string): string {
  const lines = output.split("\n");
  const start = lines.findIndex((line) => line.includes(`${name}.ts(`));
  if (start < 0) return "";
  const end = lines.findIndex((line, index) => index > start && !line.startsWith(" "));
  return lines.slice(start, end < 0 ? undefined : end).join("\n");
}

describe("the compiler's messages", () => {
  it.each(Object.entries(wrong))("%s is refused in words that can be read", (name, { says }) => {
    const message = messageOf(name);
    expect(message).toContain(says);
    expect(message).not.toContain("exactOptionalPropertyTypes");
    expect(message.length).toBeLessThan(1_200);
    expect(output.split("\n").filter((line) => line.includes(`${name}.ts(`))).toHaveLength(1);
  });

  it("find nothing wrong in the contracts themselves", () => {
    expect(messageOf("contracts")).toBe("");
  });
});

describe("the declarations of a contracts package", () => {
  it("import posthorn alone and name no schema library", async () => {
    const declared = await readFile(join(folder, "out", folder.slice(root.length), "contracts.d.ts"), "utf8");
    const imported = [...declared.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, name]) => name);
    expect(new Set(imported)).toEqual(new Set(["posthorn"]));
    expect(declared).not.toMatch(/zod|valibot|arktype|StandardSchema/i);
    expect(declared).toContain(`Event<"UserLeft", "users", {`);
  });
});
