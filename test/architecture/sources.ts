/**
 * The sources as data: every file of a folder, what it imports, and how long its functions are.
 *
 * TypeScript's own compiler offers no parser to programs, so the one that the test runner brings along is used.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAst } from "vite";

export const root = fileURLToPath(new URL("../..", import.meta.url));

export interface Import {
  /** As written: "./x.js", "pg", "node:fs". */
  readonly specifier: string;
  /** The imported file of this package, from the root of the repository; undefined for packages. */
  readonly file: string | undefined;
  readonly kind: "static" | "type" | "dynamic";
  readonly line: number;
}

export interface FunctionSize {
  readonly name: string;
  readonly line: number;
  readonly lines: number;
}

export interface Source {
  /** From the root of the repository: "src/core/errors.ts". */
  readonly file: string;
  readonly lines: number;
  readonly imports: readonly Import[];
  readonly functions: readonly FunctionSize[];
  /** Every name in the code, once: of variables, functions, classes, fields and types. */
  readonly names: ReadonlySet<string>;
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

/** Reads the files below the folders, generated ones excluded. */
export function sourcesIn(...folders: readonly string[]): readonly Source[] {
  return folders
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
    )
    .filter((file) => /\.(ts|mjs)$/.test(file) && !/\.d\.ts$|node_modules/.test(file))
    .sort()
    .map(readSource);
}

export function readSource(file: string): Source {
  return parseSource(file, readFileSync(join(root, file), "utf8"));
}

export function parseSource(file: string, text: string): Source {
  const imports: Import[] = [];
  const functions: FunctionSize[] = [];
  const names = new Set<string>();
  const lineOf = lineFinder(text);
  walk(toNode(parseAst(text, { lang: "ts", astType: "ts" })), [], (node, parents) => {
    if (/Identifier$/.test(node.type) && typeof node.name === "string") names.add(node.name);
    const found = importOf(node);
    if (found !== undefined) {
      imports.push({ ...found, file: resolve(file, found.specifier), line: lineOf(node.start) });
    }
    if (isFunction(node) && !isGroup(parents.at(-1))) {
      const line = lineOf(node.start);
      functions.push({ name: nameOf(node, parents), line, lines: lineOf(node.end) - line + 1 });
    }
  });
  return { file, lines: text.split("\n").length - (text.endsWith("\n") ? 1 : 0), imports, functions, names };
}

function importOf(node: Node): Pick<Import, "specifier" | "kind"> | undefined {
  switch (node.type) {
    case "ImportDeclaration":
      return { specifier: literal(node.source), kind: onlyTypes(node) ? "type" : "static" };
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
      if (!isNode(node.source)) return undefined;
      return { specifier: literal(node.source), kind: onlyTypes(node) ? "type" : "static" };
    case "ImportExpression":
      return { specifier: isText(node.source) ? literal(node.source) : computed, kind: "dynamic" };
    case "TSImportType":
      return { specifier: literal(node.source ?? node.argument), kind: "type" };
    default:
      return undefined;
  }
}

/** `import { type A }` keeps the import at run time under our compiler settings, so only the leading word counts. */
function onlyTypes(node: Node): boolean {
  return node.importKind === "type" || node.exportKind === "type";
}

/** What stands for a specifier that only the running program knows; a layer may import it where the rules say so. */
export const computed = "(computed)";

function isText(node: unknown): boolean {
  return isNode(node) && typeof node.value === "string";
}

function literal(node: unknown): string {
  if (isNode(node) && typeof node.value === "string") return node.value;
  if (isNode(node) && isNode(node.literal)) return literal(node.literal);
  throw new Error("an import whose specifier is not a plain string cannot be checked");
}

function resolve(from: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  return relative(root, join(root, dirname(from), specifier)).replace(/\.js$/, ".ts");
}

function isFunction(node: Node): boolean {
  return ["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"].includes(node.type);
}

/** The callback of `describe` or `suite` is a chapter of tests, not a function that one reads as a whole. */
function isGroup(parent: Node | undefined): boolean {
  if (parent?.type !== "CallExpression") return false;
  let callee: unknown = parent.callee;
  while (isNode(callee) && (callee.type === "MemberExpression" || callee.type === "CallExpression")) {
    callee = callee.type === "MemberExpression" ? callee.object : callee.callee;
  }
  return isNode(callee) && (callee.name === "describe" || callee.name === "suite");
}

function nameOf(node: Node, parents: readonly Node[]): string {
  for (const candidate of [node.id, parents.at(-1)?.key, parents.at(-1)?.id]) {
    if (isNode(candidate) && typeof candidate.name === "string") return candidate.name;
  }
  return "(without a name)";
}

function walk(node: Node, parents: readonly Node[], visit: (node: Node, parents: readonly Node[]) => void): void {
  visit(node, parents);
  const path = [...parents, node];
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) walk(child, path, visit);
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

function toNode(value: unknown): Node {
  if (!isNode(value)) throw new Error("the parser returned no syntax tree");
  return value;
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((starts[middle] ?? Infinity) <= offset) low = middle;
      else high = middle;
    }
    return low + 1;
  };
}
