/** What `posthorn why` and `status` say of messages that a limit of the fleet keeps back. */
import { command, type Policy, type Post, type QueuePolicy, type Sql, type } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { database, decisions, digits, forever, fresh, instance, why } from "./asking.js";
import { posthornCommand } from "./command.js";

type Limits = Pick<QueuePolicy, "backlogLimit"> & Partial<Policy<"handler">>;

interface Scene {
  readonly post: Post<Sql>;
  readonly queue: string;
  send(key: string): Promise<string>;
}

/** A queue whose handlers never end by themselves. */
async function limited(limits: Limits): Promise<Scene> {
  const queue = fresh("mail");
  const Mail = command(`Mail${digits()}`, { queue, schema: type<{ to: string }>(), key: ({ to }) => to });
  const post = instance();
  post.queue(queue, { ...decisions, ...limits }).handle(Mail, forever);
  await post.start();
  return { post, queue, send: async (to) => (await post.send(Mail, { to })).id };
}

async function runs({ post, queue }: Scene, count: number): Promise<void> {
  await eventually(async () => (await post.backlog()).find(({ name }) => name === queue)?.running === count);
}

const hour = 3_600_000;

test("a message that waits for a permit of the rate is said to, with the rate and the time that it means", async () => {
  const scene = await limited({ rateLimit: { messages: 60, perMs: hour, burst: 2 } });
  await scene.send("a");
  await scene.send("b");
  await runs(scene, 2);
  await scene.send("c");
  const last = await scene.send("d");
  expect(await why(last)).toBe(
    `waits for a permit of the rate limit of '${scene.queue}', 60 in 1 h, up to 2 at once: 1 before it, about 60 s`,
  );
  const { out } = await posthornCommand(["status", "--database", database.url]);
  expect(out).toContain(
    `Limits of '${scene.queue}': no faster in the whole fleet than 60 in 1 h, up to 2 at once; no permit at the moment.`,
  );
});

test("a message that waits because as many run as may in the fleet is said to", async () => {
  const scene = await limited({ fleetConcurrency: 1 });
  await scene.send("a");
  await runs(scene, 1);
  const next = await scene.send("b");
  expect(await why(next)).toBe(
    `waits for the one that may run at once of '${scene.queue}' in the whole fleet: none before it`,
  );
});

test("a message that was put aside for its key is said to, with its turn", async () => {
  const scene = await limited({ keyRateLimit: { messages: 1, perMs: hour, burst: 1 }, keyConcurrency: 1 });
  await scene.send("a");
  await runs(scene, 1);
  const second = await scene.send("a");
  await eventually(async () => /^waits for its key/.test(await why(second)));
  expect(await why(second)).toMatch(
    new RegExp(
      `^waits for its key: messages of '${scene.queue}' begin no faster than 1 in 1 h, one at a time for one key and no more than 1 at once for one key; its turn is at `,
    ),
  );
});

test("a full queue shows as full in the status", async () => {
  const scene = await limited({ concurrency: 1, backlogLimit: { messages: 2, whenFull: "reject" } });
  await scene.send("a");
  await runs(scene, 1);
  await eventually(async () => {
    const refused = await scene.send("b").then(
      () => false,
      () => true,
    );
    return refused && (await scene.post.backlog()).find(({ name }) => name === scene.queue)?.backlog === 2;
  });
  const { out } = await posthornCommand(["status", "--database", database.url]);
  expect(out).toContain(
    `Limits of '${scene.queue}': full at 2 waiting messages, and then send rejects; full, producers are refused.`,
  );
});

// What was known when somebody was last refused is old by then, and nobody has asked since.
test("a queue that was full and has been worked off does not show as full", async () => {
  const queue = fresh("mail");
  const Mail = command(`Mail${digits()}`, { queue, schema: type<{ to: string }>() });
  const post = instance();
  const refusals = async () => {
    for (;;)
      if (
        await post.send(Mail, { to: "a" }).then(
          () => false,
          () => true,
        )
      )
        return;
  };
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  post
    .queue(queue, { ...decisions, concurrency: 1, backlogLimit: { messages: 2, whenFull: "reject" } })
    .handle(Mail, () => opened);
  await post.start();
  await refusals();
  open();
  await post.untilIdle();
  const { out } = await posthornCommand(["status", "--database", database.url]);
  expect(out).toContain(`Limits of '${queue}': full at 2 waiting messages, and then send rejects.\n`);
});
