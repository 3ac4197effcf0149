/** When a command begins: delay, time, expiry; on a server and on the embedded database. */
import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, type Post, posthorn, type Sql, type } from "../../src/index.js";
import { decisions } from "../producer/stage.js";
import { createDatabase } from "../support/server.js";

interface Payload {
  readonly run: string;
}
const Act = command("DoAct", { queue: "acts", schema: type<Payload>() });
const Effect = command("DoTimedEffect", { queue: "timed-effects", schema: type<Payload>() });

const begun: { readonly run: string; readonly at: number; readonly attempt: number }[] = [];
const handlers = new Map<string, (attempt: number) => unknown>();
function handle({ run }: Payload, { attempt }: { readonly attempt: number }): unknown {
  begun.push({ run, at: Date.now(), attempt });
  return handlers.get(run)?.(attempt);
}
const begunOf = (run: string) => begun.filter((one) => one.run === run);

describe.each(["server", "pglite"] as const)("on %s", (kind) => {
  let post: Post<Sql>;
  let close: () => Promise<unknown>;
  beforeAll(async () => {
    const home = kind === "server" ? await createDatabase() : undefined;
    const pglite = home === undefined ? await PGlite.create() : undefined;
    post = posthorn({ service: `timed-${kind}`, database: home?.url ?? pglite ?? "", migrate: "auto" }) as Post<Sql>;
    post.queue("acts", decisions).handle(Act, handle);
    post.queue("timed-effects", { ...decisions, idempotency: "transaction" }).handle(Effect, handle);
    await post.start();
    close = async () => {
      await post.stop();
      await pglite?.close();
      await home?.drop();
    };
  });
  afterAll(() => close());

  test("a delayed command is scheduled until its time, and begins no earlier", async () => {
    const run = `${kind}-delayed`;
    const receipt = await post.send(Act, { run }, { delayMs: 300 });
    const before = await receipt.status();
    expect(before).toMatchObject({ state: "scheduled", attempt: 0 });
    expect(await receipt.settled({ withinMs: 10_000 })).toMatchObject({ state: "succeeded" });
    expect(begunOf(run)[0]?.at).toBeGreaterThanOrEqual((before.dueAt?.getTime() ?? Number.POSITIVE_INFINITY) - 20);
    expect(begunOf(run)).toHaveLength(1);
  });
});
