/** What operators met who followed the guides with nothing but their text. */
import { randomBytes } from "node:crypto";
import { event, policies, posthorn, type } from "posthorn";
import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openSession } from "../sql/engine.js";
import { createDatabase } from "../support/server.js";
import { type Ended, posthornCommand, project } from "./command.js";

const Told = event("ThingTold", { topic: "things", schema: type<object>(), key: () => "ada" });

async function within(work: (url: string) => Promise<void>): Promise<void> {
  const database = await createDatabase();
  try {
    await work(database.url);
  } finally {
    await database.drop();
  }
}

async function sql(url: string, text: string): Promise<void> {
  const session = await openSession(url);
  try {
    await session.rows(text);
  } finally {
    await session.close();
  }
}

// Before, status and each verb of operators ended with PH_ISOLATION there, and left an operation that nobody could finish.
test("where a database is serializable by default, every look and every verb works", async () => {
  await within(async (url) => {
    await sql(
      url,
      `alter database ${new URL(url).pathname.slice(1)} set default_transaction_isolation = 'serializable'`,
    );
    const cli = (...args: readonly string[]): Promise<Ended> => posthornCommand([...args, "--database", url]);
    expect((await cli("migrate")).code).toBe(0);
    const post = posthorn({ service: "shop", database: url, migrate: "check", logger: silentLogger });
    post.subscription("reader", { topic: "things", ...policies.notify }).on(Told, () => undefined);
    await post.start();
    await post.publish(Told, {});
    await post.untilIdle();
    const from = new Date(Date.now() - 3_600_000).toISOString();
    for (const args of [
      ["status", "--json"],
      ["dead-letters", "redrive", "--all", "--yes"],
      ["replay", "reader", "--from", from, "--yes"],
      ["purge", "reader", "--yes"],
      ["erase", "--key", "ada", "--yes"],
      ["drain", "reader"],
    ]) {
      expect(await cli(...args), args.join(" ")).toMatchObject({ code: 0, err: "" });
    }
    expect(await post.operate.audit({ unfinished: true })).toEqual([]);
    expect((await post.scaling()).lines).toHaveLength(1);
    await post.stop();
  });
});

// Before, --schema was no option of move, so an installation of another name could not be moved; nor could check look at another database.
test("an installation of another name gets its roles, is checked against, and is moved, each into a schema of its name", async () => {
  await within(async (url) => {
    await within(async (target) => {
      const schema = `years_${randomBytes(4).toString("hex")}`;
      const roles = ["producer", "worker", "observer"].map((role) => `${schema}_${role}`);
      const made = await posthornCommand(["migrate", "--with-roles", "--database", url, "--schema", schema]);
      expect(made).toMatchObject({ code: 0, out: expect.stringContaining(roles.join(", ")) });
      const post = posthorn({ service: "shop", database: url, schema, migrate: "check", logger: silentLogger });
      await post.publish(Told, {});
      await post.stop();
      const cwd = await project({
        "posthorn.config.js": `import { event, policies, posthorn, type } from "posthorn";
          export const post = posthorn({ service: "shop", database: "postgres://nobody@127.0.0.1:1/away", schema: "${schema}" });
          const Told = event("ThingTold", { topic: "things", schema: type(), key: () => "ada" });
          post.subscription("reader", { topic: "things", ...policies.notify }).on(Told, () => undefined);`,
      });
      const check = (...args: readonly string[]) => posthornCommand(["check", ...args], { cwd });
      expect(await check()).toMatchObject({ code: 1, out: expect.stringContaining("PH_DATABASE_AWAY") });
      expect(await check("--database", url)).toMatchObject({ code: 0 });
      expect(await check("--database", url, "--schema", "other")).toMatchObject({
        code: 1,
        out: expect.stringContaining("PH_SCHEMA_MISSING"),
      });
      expect((await check("--database", url, "--offline")).code).toBe(2);
      expect((await check("--schema", "other")).code).toBe(2);
      const moved = await posthornCommand(["move", "--from", url, "--to", target, "--schema", schema, "--json"]);
      expect(moved).toMatchObject({ code: 0, err: "" });
      expect(JSON.parse(moved.out)).toMatchObject({ moved: true, rows: { message_1: 1 } });
      const shown = await posthornCommand(["check", "--database", target], { cwd });
      expect(shown).toMatchObject({ code: 0, err: "" });
      await sql(url, `drop schema ${schema} cascade; drop role ${roles.join(", ")}`);
    });
  });
});

// Before, a mistyped fingerprint ended with 0, as a group does that was dealt with.
test("a group that no dead letter is of is said with 1", async () => {
  await within(async (url) => {
    await posthornCommand(["migrate", "--database", url]);
    const ended = await posthornCommand(["dead-letters", "redrive", "--group", "3ac1c91b", "--yes", "--database", url]);
    expect(ended).toMatchObject({ code: 1, out: "", err: expect.stringMatching(/group "3ac1c91b".+PH_NOT_LISTED/) });
  });
});
