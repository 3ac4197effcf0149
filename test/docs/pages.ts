/** The pages of the documentation as data: their blocks of code, links and headings. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../architecture/sources.js";

export interface Block {
  readonly language: string;
  readonly text: string;
  readonly line: number;
  /** What the comment before the block says of it: "from examples/shop/post.ts", "file post.ts", "run". */
  readonly mark: string | undefined;
}

export interface Page {
  /** From the root of the repository. */
  readonly file: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** Targets of links and images, outside of blocks of code. */
  readonly links: readonly string[];
  /** As GitHub names them in an address. */
  readonly anchors: ReadonlySet<string>;
}

export function pagesIn(folder: string): readonly Page[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => readPage(join(folder, name)));
}

export function readPage(file: string): Page {
  return parsePage(file, readFileSync(join(root, file), "utf8"));
}

const fence = /^(?:<!-- (?<mark>.+?) -->\n+)?```(?<language>\w*)[^\n]*\n(?<text>[\s\S]*?)^```$/gm;

export function parsePage(file: string, text: string): Page {
  const blocks = [...text.matchAll(fence)].map(({ groups = {}, index }) => ({
    language: groups.language ?? "",
    text: groups.text ?? "",
    line: text.slice(0, index).split("\n").length,
    mark: groups.mark,
  }));
  const words = text.replace(fence, "").replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, " "));
  return {
    file,
    text,
    blocks,
    links: [...words.matchAll(/\]\(([^()\s]+)\)/g)].map(([, target = ""]) => target),
    anchors: anchorsOf(text.replace(fence, "")),
  };
}

function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, title = ""] of text.matchAll(/^#{1,6} +(.+)$/gm)) {
    const name = title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-");
    let anchor = name;
    for (let n = 1; anchors.has(anchor); n += 1) anchor = `${name}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}
