/** What is remembered of a receiver that asked for a pause, for how long, and where. */
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { expect, onTestFinished, test, vi } from "vitest";
import { silentLogger } from "../../../src/core/logger.js";
import { eventually } from "../../support/eventually.js";
import { createDatabase } from "../../support/server.js";
import { type Asked, hook, message, receiving, said, senderOf, sendOne } from "./places.js";

const pause = { status: 503, headers: { "retry-after": "3600" } };

test("a pause that is asked for is kept: nothing more is posted by this sender or by the next one of the same webhook", async () => {
  const { url, asked } = await receiving(() => pause);
  const broker = hook(url);
  const sender = await senderOf(broker);
  expect(await sendOne(sender)).toMatchObject({ kind: "unavailable", retryAfterMs: 3_600_000 });
  for (const one of [await sendOne(sender), await sendOne(await senderOf(broker))]) {
    // Without a time: the fleet was told it by the first one, and whoever ends it there shall not have it begin anew.
    expect(one).toEqual({ kind: "unavailable", unsent: true, error: expect.any(Error) });
    expect(said(one)).toContain("asked for a pause");
  }
  expect(asked).toHaveLength(1);
});

// It counted from the wall clock: set an hour forward the pause was over at once, set back it lasted for as much longer, up to for ever.
test.each([-10 * 365 * 86_400_000, 2 * 86_400_000])(
  "a clock that is set by %i ms neither ends a pause nor makes it longer",
  async (jumpMs) => {
    const { url, asked } = await receiving((_, count) =>
      count === 1 ? { status: 503, headers: { "retry-after": "1" } } : 204,
    );
    const sender = await senderOf(hook(url));
    const clock = vi.spyOn(Date, "now");
    onTestFinished(() => clock.mockRestore());
    const since = performance.now();
    await sendOne(sender);
    const now = Date.now();
    clock.mockReturnValue(now + jumpMs);
    expect((await sendOne(sender)).kind).toBe("unavailable");
    expect(asked).toHaveLength(1);
    await eventually(async () => (await sendOne(sender)).kind === "acknowledged");
    expect(performance.now() - since).toBeGreaterThan(999);
  },
);

// A process kept the whole hour for itself: what resumed the relay, or another url, was answered by it, and the circuit of the fleet opened for an hour again.
test("a process keeps a long pause for a minute by itself; after that the circuit of the fleet alone does", async () => {
  const { url, asked } = await receiving((_, count) => (count === 1 ? pause : 204));
  const sender = await senderOf(hook(url));
  await sendOne(sender);
  const now = performance.now();
  const clock = vi.spyOn(performance, "now");
  onTestFinished(() => clock.mockRestore());
  clock.mockReturnValue(now + 59_000);
  expect(await sendOne(sender)).not.toHaveProperty("retryAfterMs");
  expect(asked).toHaveLength(1);
  clock.mockReturnValue(now + 61_000);
  expect(await sendOne(sender, message("2"))).toEqual({ kind: "acknowledged" });
});

test("where a webhook goes tells paths, queries and users of one host apart, and shows none of them", () => {
  const where = (rest: string) => hook(`https://${rest}`).where;
  expect(where("partner.example")).toBe("https://partner.example");
  expect(where("partner.example:8443/#part")).toBe("https://partner.example:8443");
  const all = ["h.example/a", "h.example/b", "h.example/a?k=1", "h.example/a/", "u@h.example/a", "h.example:1/a"].map(
    where,
  );
  expect(new Set(all).size).toBe(all.length);
  for (const one of all) expect(one).toMatch(/^https:\/\/h\.example(:1)?\/…#[0-9a-f]{6}$/);
  // The same everywhere and at any time; a password is no part of it, and nobody can find one by it.
  expect(where("u:one@h.example/a")).toBe(where("u:two@h.example/a"));
  expect(where("h.example/a#x")).toBe(all[0]);
});

// Both were `https://host`: the circuit stayed open for as long as the path before had asked for.
test("a relay whose url has another path does not wait for the pause that the one before it has asked for", async () => {
  const Placed = event("OrderPlaced", { topic: "orders", schema: type<{ n: number }>() });
  const place = await createDatabase();
  let last: Post<Sql> | undefined;
  onTestFinished(async () => {
    await last?.stop({ graceMs: 0 });
    await place.drop();
  });
  const { url, asked } = await receiving(({ request }) => (request.url === "/a" ? pause : 204));
  const start = async (path: string) => {
    await last?.stop();
    const post = posthorn({ service: "shop", database: place.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
    last = post;
    post.relay("partner", {
      ...policies.relay,
      from: { topic: "orders" },
      to: hook(`${url}${path}`),
      startFrom: "oldest",
    });
    await post.start();
    return post;
  };
  const circuit = async (post: Post<Sql>) => (await post.backlog()).find(({ name }) => name === "partner")?.circuit;
  const at = (path: string) => asked.filter(({ request }: Asked) => request.url === path).length;
  const first = await start("/a");
  await first.publish(Placed, { n: 1 });
  await eventually(async () => (await circuit(first))?.state === "open");
  const { probeAt } = (await circuit(first)) ?? {};
  // A start with the same url leaves the receiver in peace.
  expect(await circuit(await start("/a"))).toMatchObject({ state: "open", probeAt });
  await start("/b");
  await eventually(() => at("/b") === 1);
  expect(at("/a")).toBe(1);
});
