import { command, policies, posthorn, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { homes } from "./homes.js";

const RingBell = command("RingBell", { queue: "bells", schema: type<{ n: number }>() });

test.each(homes)(
  "an empty database is migrated and worked on at once, whatever way it is named: $name",
  async (kind) => {
    const home = await kind.open({ empty: true });
    const post = posthorn({ service: "bells", database: home.input, migrate: "auto", logger: silentLogger });
    onTestFinished(async () => {
      await post.stop();
      await home.close();
    });
    const rung: number[] = [];
    post.queue("bells", policies.rollUp).handle(RingBell, ({ n }) => void rung.push(n));
    await post.start();
    await post.send(RingBell, { n: 1 });
    await post.untilIdle();
    expect(rung).toEqual([1]);
  },
);
