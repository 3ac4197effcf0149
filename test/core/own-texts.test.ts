/** What looks like a credential is taken out of every reason that is kept. A text of our own must not look like one, or it is told with a hole in it. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAst } from "vite";
import { expect, test } from "vitest";
import { refusalTexts } from "../../src/brokers/webhooks/refusals.js";
import { cleaned } from "../../src/core/clean.js";
import { isObject } from "../../src/databases/shapes.js";

const root = join(import.meta.dirname, "../..");

/** One line with a space in it, which is no page and no script; and no example of an address, which is for a declaration. What is put into it is a letter here. */
function textsOf(file: string): readonly string[] {
  const texts: string[] = [];
  const look = (node: unknown): void => {
    if (Array.isArray(node)) for (const one of node) look(one);
    else if (isObject(node)) {
      const text = textOf(node);
      if (text !== undefined && /^(?!.*:\/\/).* .*$/.test(text)) texts.push(text);
      for (const one of Object.values(node)) look(one);
    }
  };
  look(parseAst(readFileSync(join(root, file), "utf8"), { lang: "ts" }).body);
  return texts;
}

function textOf(node: object): string | undefined {
  if (!("type" in node)) return undefined;
  if (node.type === "Literal" && "value" in node && typeof node.value === "string") return node.value;
  if (node.type !== "TemplateLiteral" || !("quasis" in node) || !Array.isArray(node.quasis)) return undefined;
  return node.quasis.map((quasi: { readonly value: { readonly cooked: string } }) => quasi.value.cooked).join("x");
}

test("nothing is taken out of what a webhook is turned away for", () => {
  // "the headers of a signature: webhook-id, …" was told as "the headers of a signature: ***, …".
  for (const text of Object.values(refusalTexts)) expect(cleaned(text)).toBe(text);
});

test("nothing is taken out of any sentence of the library", () => {
  const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".gen.ts"))
    .map((file) => join("src", file));
  const texts = files.flatMap((file) => textsOf(file).map((text) => `${file}: ${text}`));
  expect(texts.length).toBeGreaterThan(1_000);
  const holed = texts.map((text) => cleaned(text)).filter((text, i) => text !== texts[i]);
  expect(holed).toEqual([]);
});
