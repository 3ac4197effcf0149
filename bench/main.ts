/**
 * `npm run bench [-- name … | --long | --json | --quick]`: one table, each figure beside its limit measured in the same run.
 *
 * Uses POSTHORN_BENCH_URL (a superuser's URL) where it is given, else a server of its own from npm.
 */
import { parseArgs } from "node:util";
import pg from "pg";
import { startServer } from "../test/support/own-server.js";
import type { Bench, Row } from "./bench.js";
import type { Figure } from "./measure.js";
import { drainDefaults, drainHandler, drainTransaction } from "./rows/drain.js";
import { bulkPublish, publishInTransaction } from "./rows/publish.js";

const rows: readonly Row[] = [bulkPublish, drainHandler, drainDefaults, publishInTransaction, drainTransaction];

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, long: { type: "boolean" }, quick: { type: "boolean" } },
});

const unknown = positionals.filter((name) => !rows.some(({ names }) => names.includes(name)));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(", ")}. Known are: ${rows.flatMap(({ names }) => names).join(", ")}`);
  process.exit(2);
}

const given = process.env.POSTHORN_BENCH_URL;
const server = given === undefined ? await startServer({ settings: { shared_buffers: "512MB" } }) : undefined;
const admin = given ?? server?.url() ?? "";
const notes: string[] = [];
let count = 0;

const bench: Bench = {
  database: async () => {
    const client = new pg.Client(admin);
    await client.connect();
    count += 1;
    const name = `bench_${process.pid}_${count}`;
    await client.query(`create database ${name}`);
    await client.end();
    const url = new URL(admin);
    url.pathname = `/${name}`;
    return url.href;
  },
  rounds: flags.quick ? 2 : 5,
  roundMs: flags.quick ? 1_000 : 3_000,
  note: (text) => notes.push(text),
};

const figures: Figure[] = [];
try {
  for (const row of rows) {
    const chosen =
      positionals.length === 0 ? flags.long || !row.long : row.names.some((name) => positionals.includes(name));
    if (!chosen) continue;
    if (!flags.json) console.error(`… ${row.names.join(", ")}`);
    figures.push(...(await row.run(bench)));
  }
} catch (error) {
  console.error(error);
  // Connections of the row that failed may still be open; the server's watchdog ends it.
  process.exit(1);
}
await server?.remove();

if (flags.json) {
  for (const figure of figures) console.log(JSON.stringify(figure));
} else {
  printTable(figures);
  for (const note of notes) console.log(note);
}
process.exitCode = figures.some(({ holds }) => holds === false) ? 1 : 0;

function printTable(lines: readonly Figure[]): void {
  const number = (value: number | null): string =>
    value === null ? "" : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 0 });
  const head = ["", "value", "unit", "limit", "ratio", "min … max", "bar", "holds"];
  const body = lines.map(({ name, value, unit, limit, ratio, min, max, bar, holds }) => [
    name,
    number(value),
    unit,
    number(limit),
    number(ratio),
    `${number(min)} … ${number(max)}`,
    bar ?? "",
    holds === null ? "" : holds ? "yes" : "NO",
  ]);
  const widths = head.map((title, i) => Math.max(title.length, ...body.map((cells) => cells[i]?.length ?? 0)));
  for (const cells of [head, ...body]) {
    console.log(
      cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "),
    );
  }
}
