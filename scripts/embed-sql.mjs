/**
 * Writes the SQL files into src/store/sql.gen.ts, so that the built package needs no files beside its code.
 *
 * The order is the order in which they run: migrations, functions, views, grants; by name within a folder. `--check` writes
 * nothing and fails when the committed file differs.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = `${root}src/store/sql.gen.ts`;

export function embedSql() {
  const text = render();
  if (existsSync(target) && readFileSync(target, "utf8") === text) return;
  writeFileSync(target, text);
}

function render() {
  const names = [...sqlIn("migrations"), ...sqlIn("functions"), "views.sql", "grants.sql"];
  const entries = names
    .filter((name) => existsSync(`${root}sql/${name}`))
    .map(
      (name) =>
        `  { name: ${JSON.stringify(name)}, text: \`${escaped(readFileSync(`${root}sql/${name}`, "utf8"))}\` },\n`,
    );
  return [
    "/** Written by scripts/embed-sql.mjs from the folder sql; do not edit. */\n",
    "export const sqlFiles: readonly { readonly name: string; readonly text: string }[] = [\n",
    ...entries,
    "];\n",
  ].join("");
}

function sqlIn(folder) {
  if (!existsSync(`${root}sql/${folder}`)) return [];
  return readdirSync(`${root}sql/${folder}`)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => `${folder}/${name}`);
}

/** For a template literal; a carriage return would silently become a line feed in one. */
function escaped(text) {
  return text.replaceAll("\r\n", "\n").replace(/[\\`]|\$\{/g, "\\$&");
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (process.argv.includes("--check")) {
    if (!existsSync(target) || readFileSync(target, "utf8") !== render()) {
      process.stderr.write("src/store/sql.gen.ts is stale: run `npm run embed`\n");
      process.exit(1);
    }
  } else {
    embedSql();
  }
}
