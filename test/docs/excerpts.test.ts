import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { root } from "../architecture/sources.js";
import { type Page, pagesIn, parsePage, readPage } from "./pages.js";

type Read = (file: string) => string | undefined;

const fromDisk: Read = (file) => (existsSync(join(root, file)) ? readFileSync(join(root, file), "utf8") : undefined);
const spaced = (text: string): string => text.replace(/\s+/g, " ").trim();

/** Blocks that say where they are from, and are not there. */
function driftedExcerpts(pages: readonly Page[], read: Read = fromDisk): readonly string[] {
  return pages.flatMap((page) =>
    page.blocks.flatMap(({ mark, text, line }) => {
      const file = mark?.match(/^from (\S+)$/)?.[1];
      if (file === undefined) return [];
      const source = read(file);
      const wanted = spaced(text);
      if (source !== undefined && wanted !== "" && spaced(source).includes(wanted)) return [];
      return [`${page.file}:${line}: not in ${file}`];
    }),
  );
}

/** Code that nobody compares with anything. */
function unmarked(pages: readonly Page[], mark: RegExp): readonly string[] {
  return pages.flatMap((page) =>
    page.blocks
      .filter((block) => block.language === "ts" && !mark.test(block.mark ?? ""))
      .map(({ line }) => `${page.file}:${line}: says ${mark.source} nowhere`),
  );
}

/** Links and images that lead to no file, or to no heading of it. */
function brokenLinks(pages: readonly Page[], read: Read = fromDisk): readonly string[] {
  return pages.flatMap((page) =>
    page.links
      .filter((link) => !/^[a-z]+:/.test(link))
      .filter((link) => {
        const [path = "", anchor] = link.split("#");
        const file = path === "" ? page.file : normalize(join(dirname(page.file), path));
        if (path !== "" && !path.endsWith(".md")) return !existsSync(join(root, file));
        const text = path === "" ? page.text : read(file);
        if (text === undefined) return true;
        return anchor !== undefined && !parsePage(file, text).anchors.has(anchor);
      })
      .map((link) => `${page.file}: ${link}`),
  );
}

test("every excerpt in the documentation and the README is in the file that it names, word for word", () => {
  expect(driftedExcerpts([...pagesIn("docs"), readPage("README.md")])).toEqual([]);
});

test("every block of TypeScript in the concepts names the file that it is from, and the start page the file that it makes", () => {
  expect(unmarked(pagesIn("docs/concepts"), /^from /)).toEqual([]);
  expect(unmarked(pagesIn("docs/start"), /^(file|from) /)).toEqual([]);
});

test("every link and image in the documentation, the README and ARCHITECTURE leads to a file and a heading that exist", () => {
  expect(brokenLinks([...pagesIn("docs"), readPage("README.md"), readPage("ARCHITECTURE.md")])).toEqual([]);
});

test("every concept has a picture, and is in the index of the documentation", () => {
  const index = readPage("docs/README.md").links;
  for (const { file, links } of pagesIn("docs/concepts")) {
    expect(
      links.some((link) => link.endsWith(".svg")),
      file,
    ).toBe(true);
    expect(index).toContain(file.replace("docs/", ""));
  }
});

test("the check of excerpts finds a changed word and a missing file, and does not mind how lines are broken", () => {
  const block = (from: string, code: string) => `<!-- from ${from} -->\n\n\`\`\`ts\n${code}\n\`\`\`\n\n`;
  const text = block("a.ts", "  a(1,\n 2);") + block("a.ts", "a(1, 3);") + block("b.ts", "a(1, 2);");
  const read: Read = (file) => (file === "a.ts" ? "x;\na(1, 2);\ny;" : undefined);
  expect(driftedExcerpts([parsePage("x.md", text)], read)).toEqual(["x.md:8: not in a.ts", "x.md:14: not in b.ts"]);
  expect(unmarked([parsePage("x.md", `${text}\`\`\`ts\nz\n\`\`\`\n`)], /^from /)).toHaveLength(1);
});

test("the check of links finds a missing file, picture and heading, and leaves addresses and code alone", () => {
  const text =
    "# Say it, “twice”?\n[a](#say-it-twice) [b](#no) ![c](no.svg) [d](no.md) [e](y.md#z) [f](y.md#no) [g](https://x.y/no) `h[1](no)`\n```ts\n[i](no)\n```\n";
  const read: Read = (file) => (file === "docs/y.md" ? "## Z\n" : undefined);
  expect(brokenLinks([parsePage("docs/x.md", text)], read)).toEqual(
    ["#no", "no.svg", "no.md", "y.md#no"].map((link) => `docs/x.md: ${link}`),
  );
});
