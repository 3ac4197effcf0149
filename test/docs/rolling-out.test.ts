/** The code of docs/guides/rolling-out.md, run. */
import { posthorn } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { before, SendInvoice, work } from "./examples/rolling-out.js";
import { readPage } from "./pages.js";

test("the guide about rolling out: messages of both versions reach the new handler, and SQL names the version of its own", async () => {
  const pglite = await createPglite({ empty: true });
  const post = posthorn({ service: "guide", database: pglite });
  const sent: unknown[] = [];
  work(post, { send: async (orderId, to) => void sent.push([orderId, to]) });
  try {
    await post.send(before, { orderId: "1", to: "ada@example.org" });
    await post.send(SendInvoice, { orderId: "2", to: ["ada@example.org", "bob@example.org"] });
    await post.start();
    const sql = readPage("docs/guides/rolling-out.md").blocks.find(({ language }) => language === "sql");
    await pglite.exec(sql?.text ?? "");
    await eventually(async () => sent.length === 3);
    expect(sent.sort()).toEqual([
      ["1", ["ada@example.org"]],
      ["2", ["ada@example.org", "bob@example.org"]],
      ["3", ["ada@example.org"]],
    ]);
  } finally {
    await post.stop();
    await pglite.close();
  }
});

test("every block of TypeScript in the guide is from code that a test runs", () => {
  const code = readPage("docs/guides/rolling-out.md").blocks.filter(({ language }) => language === "ts");
  expect(code.length).toBeGreaterThan(1);
  expect(code.filter(({ mark }) => mark !== "from test/docs/examples/rolling-out.ts")).toEqual([]);
});
