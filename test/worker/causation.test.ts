/** What caused a message, and how far a chain of causes may go. */
import { command, event, type Message, type Post, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Company, companyIn, freshName } from "../instance/company.js";
import { twoHomes } from "../producer/homes.js";
import { collect, decisions, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";

const patience = { withinMs: 60_000 };
const schema = type<{ n: number }>();

describe.each(twoHomes)("on $name", (kind) => {
  let company: Company;
  const open: Post<Sql>[] = [];
  beforeAll(async () => {
    company = await companyIn(kind.open);
  });
  afterAll(async () => {
    await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
    await company?.close();
  });
  function make(causationLimit?: number): Post<Sql> {
    const common = { service: serviceName(), database: company.home.input, logger: collect([]) };
    const post = posthorn(causationLimit === undefined ? common : { ...common, causationLimit }) as Post<Sql>;
    open.push(post);
    return post;
  }

  test.each(["transaction", "handler"] as const)(
    "what a handler says in mode %s names the message that caused it and the one that began it, and its headers stay the producer's",
    async (idempotency) => {
      const queue = freshName("chain");
      const n = queue.split("-")[1];
      const topic = freshName("chained");
      const First = command(`DoFirst${n}`, { queue, schema });
      const Second = event(`Second${n}Done`, { topic, schema });
      const Third = command(`DoThird${n}`, { queue, schema });
      const seen = new Map<string, Message>();
      const post = make();
      post
        .queue(queue, { ...decisions, idempotency })
        .handle(First, (_work, { publish, message }) => {
          seen.set("first", message);
          publish(Second, { n: 2 }, { headers: { trace: "t" } });
        })
        .handle(Third, (_work, { message }) => {
          seen.set("third", message);
        });
      post
        .subscription(freshName("reader"), { topic, ...decisions, idempotency })
        .onMany(Second, { size: 10, maxWaitMs: 1 }, (facts, { send }) => {
          for (const { message } of facts) seen.set("second", message);
          send(Third, { n: 3 });
        });
      await post.start();
      const { id } = await post.send(First, { n: 1 }, { headers: { tenant: "a" } });
      await eventually(async () => seen.has("third"), patience);
      expect(seen.get("first")).toMatchObject({ id, correlationId: id, causationId: null, headers: { tenant: "a" } });
      const second = seen.get("second");
      expect(second).toMatchObject({ correlationId: id, causationId: id });
      expect(second?.headers).toEqual({ trace: "t" });
      const third = seen.get("third");
      expect(third).toMatchObject({ correlationId: id, causationId: second?.id });
      expect(third?.headers).toEqual({});
      await post.stop();
    },
  );

  test("handlers that cause each other's messages in a ring end with an error that names the ring", async () => {
    const queue = freshName("ring");
    const n = queue.split("-")[1];
    const A = command(`DoA${n}`, { queue, schema });
    const B = command(`DoB${n}`, { queue, schema });
    let runs = 0;
    const errors: unknown[] = [];
    const post = make(7);
    post
      .queue(queue, { ...decisions, idempotency: "handler" })
      .handle(A, ({ n: left }, { send }) => {
        runs += 1;
        send(B, { n: left });
      })
      .handle(B, ({ n: left }, { send }) => {
        runs += 1;
        try {
          send(A, { n: left });
        } catch (error) {
          errors.push(error);
        }
      });
    await post.start();
    await post.send(A, { n: 1 });
    await eventually(async () => errors.length === 1, patience);
    expect(runs).toBe(8);
    expect(errors[0]).toMatchObject({
      code: "PH_CAUSATION_DEPTH",
      message: expect.stringContaining(`The chain: DoA${n} > DoB${n} > DoA${n}.`),
      facts: { contract: `DoA${n}`, depth: 8, limit: 7 },
    });
    await post.stop();
  });

  test("a producer's header of the library's own name is refused", async () => {
    const queue = freshName("headed");
    const One = command(`DoHeaded${queue.split("-")[1]}`, { queue, schema });
    const post = make();
    await expect(post.send(One, { n: 1 }, { headers: { "~posthorn": "9 a b C" } })).rejects.toMatchObject({
      code: "PH_PAYLOAD_NOT_JSON",
    });
    await post.stop();
  });
});
