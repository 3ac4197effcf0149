import { Pool } from "pg";
import { afterEach, expect, test, vi } from "vitest";
import { isHere, placeOf } from "../../src/cli/dev/place.js";
import { reportTo } from "../../src/cli/dev/report.js";
import { Screen } from "../../src/cli/dev/screen.js";
import type { Io } from "../../src/cli/io.js";
import { createPglite } from "../support/pglite.js";

afterEach(() => {
  vi.unstubAllEnvs();
});

function recording(terminal: boolean): { readonly io: Io; readonly out: () => string } {
  let written = "";
  const out = (text: string): void => {
    written += text;
  };
  const io = { out, err: out, terminal, watched: false, answers: false, ask: async () => "" };
  return {
    io,
    out: () => {
      const text = written;
      written = "";
      return text;
    },
  };
}

test("the block stays below the lines: each line takes it away, is written, and draws it again", () => {
  const { io, out } = recording(true);
  const screen = new Screen(io, () => 24);
  screen.line("first");
  expect(out()).toBe("first\n");
  screen.block("a\nb\n");
  expect(out()).toBe("\u001b[?7la\nb\n\u001b[?7h");
  screen.line("second");
  expect(out()).toBe("\u001b[2A\r\u001b[Jsecond\n\u001b[?7la\nb\n\u001b[?7h");
  screen.end();
  expect(out()).toBe("\u001b[2A\r\u001b[J");
});

test("a block that is higher than the terminal is cut, so that it can be taken away again", () => {
  const { io, out } = recording(true);
  const screen = new Screen(io, () => 4);
  screen.block("1\n2\n3\n4\n5");
  expect(out()).toBe("\u001b[?7l1\n2\n\u001b[?7h");
  screen.line("x");
  expect(out().startsWith("\u001b[2A")).toBe(true);
});

test("without a terminal no block is drawn and nothing is overwritten", () => {
  const { io, out } = recording(false);
  const screen = new Screen(io, () => 24);
  screen.block("a");
  screen.line("x");
  screen.end();
  expect(out()).toBe("x\n");
});

test("foreign text in what dev says is on one line and moves no cursor; what the user's code prints stays as it is", () => {
  const { io, out } = recording(false);
  const { tell } = reportTo(io, false);
  tell({ event: "mail", id: 1, from: "", to: ["a@example.org"], subject: "\u001b[2J\nposthorn: stopped" });
  expect(out()).toBe("posthorn: mail to a@example.org: [2J posthorn: stopped\n");
  tell({ event: "webhook", id: 2, method: "POST", path: "/hook/\u009b2J", bytes: 1, status: 200 });
  expect(out()).toBe("posthorn: webhook POST /hook/ 2J, 1 byte, answered 200\n");
  tell({ event: "output", stream: "stdout", text: "\u001b[31mred" });
  expect(out()).toBe("\u001b[31mred\n");
});

test("with --json every event is one line", () => {
  const { io, out } = recording(true);
  const { tell } = reportTo(io, true);
  tell({ event: "failed", code: "PH_CONFIG_BROKEN", message: "a\nb", againInMs: null });
  expect(out()).toBe('{"event":"failed","code":"PH_CONFIG_BROKEN","message":"a\\nb","againInMs":null}\n');
});

test("a database is on this machine when it is embedded, PGlite, or a server on the loopback address or a socket", async () => {
  vi.stubEnv("PGHOST", undefined);
  const here = [
    "embedded:.posthorn",
    "postgres://localhost/shop",
    "postgres://u:p@127.0.0.1:5432/shop",
    "postgres://[::1]/shop",
    "postgres:///shop",
    "postgres:///shop?host=/var/run/postgresql",
  ];
  expect(here.filter((url) => !isHere(url))).toEqual([]);
  const elsewhere = [
    "postgres://db.example/shop",
    "postgres://localhost.example/shop",
    "postgres://127.0.0.1.example/shop",
    "postgres://localhost/shop?host=db.example",
    "postgres://localhost/shop?host=localhost,db.example",
  ];
  expect(elsewhere.filter((url) => isHere(url))).toEqual([]);
  vi.stubEnv("PGHOST", "db.example");
  expect(isHere("postgres:///shop")).toBe(false);
  const pool = new Pool();
  expect(isHere(pool)).toBe(false);
  await pool.end();
  const pglite = await createPglite();
  expect(isHere(pglite)).toBe(true);
  await pglite.close();
});

test("a database is named without its user, password and parameters", () => {
  expect(placeOf("postgres://ada:secret@db.example:5433/shop?password=secret").database).toBe(
    "postgres://db.example:5433/shop",
  );
  expect(placeOf("postgres://ada:sec ret@[").database).not.toContain("ret");
  expect(placeOf("embedded:/tmp/x")).toEqual({ database: "embedded:/tmp/x", folder: "/tmp/x" });
});
