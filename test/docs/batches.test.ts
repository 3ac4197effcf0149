/** The example of docs/guides/batches.md, run. */
import { expect, test } from "vitest";
import { command, days, minutes, posthorn, retry, seconds, type } from "../../src/index.js";
import { createDatabase } from "../support/server.js";

const PushNotice = command("PushNotice", { queue: "notices", schema: type<{ device: string; text: string }>() });
const RecordView = command("RecordView", { queue: "views", schema: type<{ page: string }>() });

/** Somebody else's endpoint that takes many notices in one call and answers for each. */
class Pusher {
  readonly calls: string[][] = [];
  readonly delivered: string[] = [];
  readonly keys = new Set<string>();

  async push(notices: readonly { device: string; text: string; key: string }[]): Promise<{ error?: string }[]> {
    this.calls.push(notices.map(({ device }) => device));
    return notices.map(({ device, key }) => {
      if (device === "gone") return { error: "no such device" };
      if (!this.keys.has(key)) this.delivered.push(device);
      this.keys.add(key);
      return {};
    });
  }
}

test("the example of the guide about batches pushes many notices in one call, tries the refused one again, and sums up views in one statement", async () => {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "guide", database: url, migrate: "auto" });
  const pusher = new Pusher();
  const policy = {
    retry: retry.exponential({ attempts: 3, firstMs: 1, maxMs: 1 }),
    ordering: "none",
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(5), backlog: 100_000, deadLetters: 10, noWorkerMs: minutes(1) },
  } as const;
  const notices = post.queue("notices", { ...policy, idempotency: "handler" });
  const views = post.queue("views", { ...policy, idempotency: "transaction" });
  try {
    notices.handleMany(PushNotice, { size: 100, maxWaitMs: 50 }, async (messages) => {
      const answers = await pusher.push(
        messages.map(({ payload, idempotencyKey }) => ({ ...payload, key: idempotencyKey() })),
      );
      for (const [i, { error }] of answers.entries()) {
        if (error !== undefined) messages[i]?.fail(new Error(error));
      }
    });

    views.handleMany(RecordView, { size: 500, maxWaitMs: 1_000 }, async (messages, { tx }) => {
      await tx.query(
        `insert into views (page, times) select page, count(*) from unnest($1::text[]) page group by page
           on conflict (page) do update set times = views.times + excluded.times`,
        [messages.map(({ payload }) => payload.page)],
      );
    });

    await post.transaction(async ({ tx }) => {
      await tx.query("create table views (page text primary key, times int not null)");
    });
    const pages = ["home", "home", "cart", "home"].map((page) => ({ page }));
    await post.sendMany(RecordView, pages);
    await post.sendMany(
      PushNotice,
      ["anna", "gone", "ben"].map((device) => ({ device, text: "It is on its way." })),
    );
    await post.start();
    await post.untilIdle();
    const sums = await post.transaction(async ({ tx }) => (await tx.query("select * from views order by page")).rows);
    expect(sums).toEqual([
      { page: "cart", times: 1 },
      { page: "home", times: 3 },
    ]);
    expect(pusher.calls).toEqual([["anna", "gone", "ben"], ["gone"], ["gone"]]);
    expect(pusher.delivered).toEqual(["anna", "ben"]);
  } finally {
    await post.stop();
    await drop();
  }
});
