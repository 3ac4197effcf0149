/** Versions of a contract from end to end: old and new producers and workers beside each other, on a server and on PGlite. */
import { command, event, type Post, type Sql, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Company, companyIn, freshName } from "../instance/company.js";
import { twoHomes } from "../producer/homes.js";
import { decisions } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";

const patience = { withinMs: 60_000 };
interface V1 {
  readonly to: string;
}
interface V2 {
  readonly to: readonly string[];
}
interface V3 {
  readonly to: readonly string[];
  readonly subject: string;
}
const toV2 = ({ to }: V1): V2 => ({ to: [to] });
const toV3 = (v2: V2): V3 => ({ ...v2, subject: "none" });

/** A command of a queue of its own, as three deployments know it. */
function generations() {
  const queue = freshName("letters");
  const name = `SendLetter${queue.split("-")[1]}`;
  return {
    queue,
    name,
    v1: command(name, { queue, schema: type<V1>() }),
    v2: command(name, { queue, schema: type<V2>(), version: 2, upcast: { 1: toV2 } }),
    v3: command(name, { queue, schema: type<V3>(), version: 3, upcast: { 1: toV2, 2: toV3 } }),
    v3Alone: command(name, { queue, schema: type<V3>(), version: 3 }),
  };
}

describe.each(twoHomes)("on $name", (kind) => {
  let company: Company;
  beforeAll(async () => {
    company = await companyIn(kind.open);
  });
  afterAll(() => company?.close());
  const make = (): Post<Sql> => company.make();
  const rows = async (sql: string, values: readonly unknown[] = []) => (await company.home.rows?.(sql, values)) ?? [];

  test("a handler gets messages of every older version as the newest, and is told the version that each was said in", async () => {
    const { queue, v1, v2, v3 } = generations();
    const producer = make();
    await producer.send(v1, { to: "a" });
    await producer.send(v2, { to: ["b"] });
    await producer.send(v3, { to: ["c"], subject: "said" });
    const got: unknown[] = [];
    const worker = make();
    worker.queue(queue, decisions).handle(v3, (letter, { message }) => {
      got.push([letter, message.version]);
    });
    await worker.start();
    await eventually(async () => got.length === 3, patience);
    expect(got.sort()).toEqual([
      [{ to: ["a"], subject: "none" }, 1],
      [{ to: ["b"], subject: "none" }, 2],
      [{ to: ["c"], subject: "said" }, 3],
    ]);
    await worker.stop();
    await producer.stop();
  });

  test("a handler of many gets messages of an older version as the newest", async () => {
    const { queue, v1, v3 } = generations();
    const producer = make();
    await producer.sendMany(v1, [{ to: "a" }, { to: "b" }]);
    const got: unknown[] = [];
    const worker = make();
    worker.queue(queue, decisions).handleMany(v3, { size: 10, maxWaitMs: 1 }, (letters) => {
      got.push(...letters.map(({ payload, message }) => [payload, message.version]));
    });
    await worker.start();
    await eventually(async () => got.length === 2, patience);
    expect(got).toEqual([
      [{ to: ["a"], subject: "none" }, 1],
      [{ to: ["b"], subject: "none" }, 1],
    ]);
    await worker.stop();
    await producer.stop();
  });

  test("a message that is newer than its worker waits without burning an attempt, and the newer worker handles it", async () => {
    const { queue, v1, v2 } = generations();
    const producer = make();
    const old = make();
    old.queue(queue, decisions).handle(v1, () => undefined);
    await old.start();
    const receipt = await producer.send(v2, { to: ["x"] });
    await eventually(async () => {
      const waiting = await rows(
        "select d.delivery, d.attempts, d.crashes from posthorn.deferred d join posthorn.subscription s on s.id = d.subscription where s.name = $1",
        [queue],
      );
      return waiting.length === 1 && waiting[0]?.delivery === 2 && waiting[0]?.attempts === 0;
    }, patience);
    expect(await receipt.status()).toMatchObject({ state: "queued", attempt: 0 });
    await old.stop();
    const attempts: number[] = [];
    const anew = make();
    anew.queue(queue, decisions).handle(v2, (_letter, { attempt }) => {
      attempts.push(attempt);
    });
    await anew.start();
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
    expect(attempts).toEqual([1]);
    await anew.stop();
    await producer.stop();
  });

  test("where order is kept, what comes behind a message that is newer than its worker waits for it", async () => {
    const queue = freshName("ordered");
    const name = `PostLetter${queue.split("-")[1]}`;
    const key = () => "one";
    const v1 = command(name, { queue, key, schema: type<V1>() });
    const v2 = command(name, { queue, key, schema: type<V2>(), version: 2, upcast: { 1: toV2 } });
    const policy = { ...decisions, ordering: { per: "key", whenDead: "park" } } as const;
    const got: unknown[] = [];
    const producer = make();
    const old = make();
    old.queue(queue, policy).handle(v1, ({ to }) => {
      got.push(to);
    });
    await old.start();
    await producer.send(v1, { to: "a" });
    await producer.send(v2, { to: ["b"] });
    const last = await producer.send(v1, { to: "c" });
    await eventually(async () => (await last.status()).state === "parked", patience);
    expect(got).toEqual(["a"]);
    await old.stop();
    const anew = make();
    anew.queue(queue, policy).handle(v2, ({ to }) => {
      got.push(to);
    });
    await anew.start();
    expect(await last.settled(patience)).toMatchObject({ state: "succeeded" });
    expect(got).toEqual(["a", ["b"], ["c"]]);
    await anew.stop();
    await producer.stop();
  });

  test("what is older than anybody reads is invalid with the reason, and is handled once a worker reads it and it is redriven", async () => {
    const { queue, name, v1, v3, v3Alone } = generations();
    const producer = make();
    const receipt = await producer.send(v1, { to: "late" });
    const strict = make();
    strict.queue(queue, decisions).handle(v3Alone, () => undefined);
    await strict.start();
    expect(await receipt.settled(patience)).toMatchObject({ state: "invalid" });
    expect(await rows("select issues from posthorn.invalid_messages where subscription = $1", [queue])).toEqual([
      {
        issues: [{ path: "", message: `no worker reads version 1 of ${name} any more; the oldest that is read is 3` }],
      },
    ]);
    await strict.stop();
    const got: unknown[] = [];
    const mended = make();
    mended.queue(queue, decisions).handle(v3, (letter) => {
      got.push(letter);
    });
    await mended.start();
    await rows("select posthorn.redrive(json_build_object('list', 'invalid', 'subscription', $1::text), 'me', 10)", [
      queue,
    ]);
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
    expect(got).toEqual([{ to: ["late"], subject: "none" }]);
    await mended.stop();
    await producer.stop();
  });

  test("a message whose step throws, or whose outcome does not fit the schema, is invalid and not retried", async () => {
    const queue = freshName("broken");
    const name = `MendThing${queue.split("-")[1]}`;
    const before = command(name, { queue, schema: type<{ n: number }>() });
    const number = {
      "~standard": {
        version: 1 as const,
        vendor: "test",
        validate: (value: unknown) =>
          typeof value === "object" && value !== null && "m" in value
            ? { value: value as { m: number } }
            : { issues: [{ message: "has no m" }] },
      },
    };
    const after = command(name, {
      queue,
      schema: number,
      version: 2,
      upcast: {
        1: ({ n }: { n: number }) => {
          if (n === 1) throw new Error("cannot");
          return (n === 2 ? {} : { m: n }) as { m: number };
        },
      },
    });
    const producer = make();
    const receipts = await producer.sendMany(before, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    const got: number[] = [];
    const worker = make();
    worker.queue(queue, decisions).handle(after, ({ m }) => {
      got.push(m);
    });
    await worker.start();
    const ends = [];
    for (const receipt of receipts) ends.push((await receipt.settled(patience)).state);
    expect(ends).toEqual(["invalid", "invalid", "succeeded"]);
    expect(got).toEqual([3]);
    const issues = await rows(
      "select issues #>> '{0,message}' as said from posthorn.invalid_messages where subscription = $1 order by 1",
      [queue],
    );
    expect(issues).toEqual([{ said: "has no m" }, { said: `the step from version 1 to 2 of ${name} threw: cannot` }]);
    await worker.stop();
    await producer.stop();
  });

  test("an event of a newer version waits for a subscription that knows an older one, and one that nobody listens to is skipped and counted", async () => {
    const topic = freshName("facts");
    const n = topic.split("-")[1];
    const v1 = event(`Thing${n}Changed`, { topic, schema: type<V1>() });
    const v2 = event(`Thing${n}Changed`, { topic, schema: type<V2>(), version: 2, upcast: { 1: toV2 } });
    const other = event(`Other${n}Changed`, { topic, schema: type<V1>() });
    const reader = freshName("reader");
    const producer = make();
    const old = make();
    const got: unknown[] = [];
    old.subscription(reader, { topic, ...decisions }).on(v1, (fact) => {
      got.push(fact);
    });
    await old.start();
    await producer.publish(other, { to: "nobody" });
    await producer.publish(v2, { to: ["new"] });
    await producer.publish(v1, { to: "old" });
    await eventually(async () => got.length === 1, patience);
    expect(got).toEqual([{ to: "old" }]);
    await old.stop();
    expect(
      await rows("select contract, messages::int from posthorn.skipped_events where subscription = $1", [reader]),
    ).toEqual([{ contract: `Other${n}Changed`, messages: 1 }]);
    const anew = make();
    anew.subscription(reader, { topic, ...decisions }).on(v2, (fact) => {
      got.push(fact);
    });
    await anew.start();
    await eventually(async () => got.length === 2, patience);
    expect(got[1]).toEqual({ to: ["new"] });
    await anew.stop();
    await producer.stop();
  });

  test("a producer in SQL names the version of its payload; without one it is the newest that is registered", async () => {
    const { queue, name, v1, v2 } = generations();
    const got: unknown[] = [];
    const worker = make();
    worker.queue(queue, decisions).handle(v2, (letter, { message }) => {
      got.push([letter, message.version]);
    });
    await worker.start();
    await rows("select posthorn.send($1, $2, version => 1)", [name, JSON.stringify({ to: "a" })]);
    await eventually(async () => got.length === 1, patience);
    await rows("select posthorn.send($1, $2)", [name, JSON.stringify({ to: ["b"] })]);
    await eventually(async () => got.length === 2, patience);
    expect(got).toEqual([
      [{ to: ["a"] }, 1],
      [{ to: ["b"] }, 2],
    ]);
    await expect(rows("select posthorn.send($1, '{}', version => 7)", [name])).rejects.toMatchObject({
      message: `"${name}" has no version 7; known are 1, 2`,
    });
    expect(v1.version).toBe(1);
    await worker.stop();
  });
});
