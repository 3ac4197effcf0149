/** What keeps workers of an older library working on a newer schema, and operators out of long locks: see docs/internals/upgrades.md. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { Client } from "pg";
import { expect, test } from "vitest";
import { libraryVersion } from "../../src/core/library.js";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { sqlFiles } from "../../src/store/sql.gen.js";
import { createDatabase } from "../support/server.js";
import { root, sourcesIn } from "./sources.js";

/** Migrations from before the rule, which are never edited. What they lock is in docs/internals/upgrades.md. */
const firstWithLocks = 15;

/** The comment at the head of a file. */
function headOf(text: string): string {
  const lines = text.split("\n");
  const end = lines.findIndex((line) => !line.startsWith("--"));
  return lines.slice(0, end < 0 ? lines.length : end).join("\n");
}

test("each migration says in its header what it locks", () => {
  const silent = sqlFiles
    .filter(({ name }) => name.startsWith("migrations/") && Number(name.slice(11, 15)) >= firstWithLocks)
    .filter(({ text }) => !/^-- Locks: \S.*\.$/m.test(headOf(text)))
    .map(({ name }) => name);
  expect(silent).toEqual([]);
});

test("the version that workers register with is that of the package", async () => {
  expect(JSON.parse(await readFile(`${root}package.json`, "utf8")).version).toBe(libraryVersion);
});

interface Signature {
  readonly name: string;
  readonly takes: readonly string[];
  /** So many of the last ones may be left out. */
  readonly optional: number;
  readonly returns: string;
}

const inWords = ({ name, takes, returns }: Omit<Signature, "optional">) =>
  `${name}(${takes.join(", ")}) returns ${returns}`;

function asListed(line: string): Omit<Signature, "optional"> {
  const [, name = "", takes = "", returns = ""] = /^(\w+)\((.*)\) returns (.*)$/.exec(line) ?? [];
  return { name, takes: takes === "" ? [] : takes.split(", "), returns };
}

/** Whether a call that was written for one still works with the other. */
function answers(now: Signature, listed: Omit<Signature, "optional">): boolean {
  const rest = now.takes.length - listed.takes.length;
  return (
    now.name === listed.name &&
    now.returns === listed.returns &&
    rest >= 0 &&
    rest <= now.optional &&
    listed.takes.every((type, i) => type === now.takes[i])
  );
}

async function functionsNow(): Promise<readonly Signature[]> {
  const { url, drop } = await createDatabase({ empty: true });
  const database = await openDatabase(url);
  const client = new Client({ connectionString: url });
  try {
    await ensureSchema(database, "auto");
    await client.connect();
    const { rows } = await client.query<Signature>(
      `select p.proname as name, p.pronargdefaults::int as optional, pg_get_function_result(p.oid) as returns,
         array(select format_type(t.type, null) from unnest(p.proargtypes) with ordinality t(type, n) order by t.n) as takes
       from pg_proc p where p.pronamespace = 'posthorn'::regnamespace`,
    );
    return rows;
  } finally {
    await database.close();
    await client.end();
    await drop();
  }
}

/** What programs and people call by themselves. */
const spoken = ["send", "publish", "cancel"];

function calledNames(): ReadonlySet<string> {
  const names = new Set(spoken);
  for (const { file } of sourcesIn("src")) {
    if (file.endsWith("sql.gen.ts")) continue;
    const text = readFileSync(`${root}${file}`, "utf8");
    for (const [, name = ""] of text.matchAll(/(?:posthorn\.|jsonOf\(\s*\w+,\s*")([a-z_]+)\(/g)) names.add(name);
  }
  return names;
}

/**
 * Goal: a worker of an older library calls what it always called. A function whose parameters or result change gets a new name, and the old one
 * lives on for one major version; then its line is taken out of the list by hand.
 * Method: a committed list that `--update` only adds to.
 */
test("every function that code has ever called is still there, and answers the same call in the same way", async () => {
  const file = `${root}test/architecture/called-functions.txt`;
  const listed = (await readFile(file, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
  const now = await functionsNow();
  const gone = listed.filter((line) => !now.some((one) => answers(one, asListed(line))));
  expect(gone).toEqual([]);
  const names = calledNames();
  const called = now.filter(({ name }) => names.has(name)).map(inWords);
  const all = [...new Set([...listed, ...called])].sort();
  await expect(`${all.join("\n")}\n`).toMatchFileSnapshot(file);
});

test("a parameter that may be left out changes nothing for older calls; every other change does", () => {
  const listed = asListed("write(text, bigint) returns text");
  const now = { name: "write", takes: ["text", "bigint"], optional: 0, returns: "text" };
  expect(answers(now, listed)).toBe(true);
  expect(answers({ ...now, takes: [...now.takes, "integer"], optional: 1 }, listed)).toBe(true);
  expect(answers({ ...now, takes: [...now.takes, "integer"] }, listed)).toBe(false);
  expect(answers({ ...now, takes: ["text"] }, listed)).toBe(false);
  expect(answers({ ...now, takes: ["text", "integer"] }, listed)).toBe(false);
  expect(answers({ ...now, returns: "json" }, listed)).toBe(false);
  expect(answers({ ...now, name: "wrote" }, listed)).toBe(false);
});
