import { command, policies, posthorn, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { createEmbedded } from "../support/pglite.js";

const RingBell = command("RingBell", { queue: "bells", schema: type<{ at: string }>() });

test("a schedule on the embedded database sends once for each time, through a stop and a new start", async () => {
  const { url, remove } = await createEmbedded();
  onTestFinished(remove);
  const rung: number[] = [];
  const life = async (): Promise<() => Promise<void>> => {
    const post = posthorn({ service: "bells", database: url, logger: silentLogger });
    post.queue("bells", policies.rollUp).handle(RingBell, async ({ at }) => void rung.push(Date.parse(at) / 1_000));
    const every = { cron: "* * * * * *", timeZone: "UTC", command: RingBell, missed: "all" } as const;
    post.schedule("bell", { ...every, payload: (at) => ({ at: at.toISOString() }) });
    await post.start();
    return () => post.stop();
  };
  // What a stop hands back comes a little later than what is new.
  const gapless = () => {
    const sorted = [...rung].sort((a, b) => a - b);
    return sorted.every((second, i) => second === (sorted[0] ?? 0) + i);
  };
  for (const count of [2, 5]) {
    const stop = await life();
    await eventually(() => rung.length >= count && gapless(), { withinMs: 60_000 });
    await stop();
  }
  expect(new Set(rung).size).toBe(rung.length);
}, 180_000);
