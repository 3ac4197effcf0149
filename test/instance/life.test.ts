/** The life of an instance: from its declaration over start and stop to what is refused before, between and afterwards. */
import { command, event, type Post, posthorn, retry, StoppedError, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rejected, thrown } from "../core/thrown.js";
import { type Home, twoHomes } from "../producer/homes.js";
import { collect, decisions, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";

let names = 0;
/** Contracts, queue and topic of a test's own: what one test declares in the database is no other test's business. */
function contracts() {
  names += 1;
  const queue = `work-${names}`;
  const topic = `facts-${names}`;
  return {
    queue,
    topic,
    reader: `reader-${names}`,
    DoWork: command(`DoWork${names}`, { queue, schema: type<{ n: number }>() }),
    FactStated: event(`Fact${names}Stated`, { topic, schema: type<{ n: number }>() }),
  };
}

describe.each(twoHomes)("an instance on $name", (kind) => {
  let home: Home;
  const warnings: string[] = [];
  const open: Post<unknown>[] = [];
  const make = (service = serviceName()): Post<unknown> => {
    const options = { service, database: home.input, migrate: "auto", logger: collect(warnings) } as const;
    // A machine that is busy with other tests is no dead worker.
    const post = posthorn({ ...options, workerTimeoutMs: 600_000 });
    open.push(post);
    return post;
  };
  beforeAll(async () => {
    home = await kind.open();
    await make().migrate();
  });
  afterAll(async () => {
    await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
    await home?.close();
  });
  const line = async (post: Post<unknown>, name: string) => (await post.backlog()).find((one) => one.name === name);

  test("what is said before any worker exists is kept: the queue shows as unattended, and a worker that starts later gets it", async () => {
    const { queue, DoWork } = contracts();
    const producer = make();
    const receipt = await producer.send(DoWork, { n: 1 });
    expect(await line(producer, queue)).toMatchObject({
      kind: "command",
      channel: queue,
      backlog: 1,
      workers: 0,
      unattended: true,
    });
    expect(await receipt.status()).toMatchObject({ state: "queued" });
    const got: number[] = [];
    const worker = make();
    worker.queue(queue, decisions).handle(DoWork, ({ n }) => {
      got.push(n);
    });
    await worker.start();
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(got).toEqual([1]);
    expect(await line(producer, queue)).toMatchObject({ backlog: 0, workers: 1, unattended: false });
    await worker.stop();
    expect(await line(producer, queue)).toMatchObject({ workers: 0, unattended: true });
  });

  test("an event from before its subscription exists is not delivered to it; one from after is, also while nobody works", async () => {
    const { topic, reader, FactStated } = contracts();
    const producer = make();
    await producer.publish(FactStated, { n: 1 });
    const got: number[] = [];
    const worker = () => {
      const post = make();
      post.subscription(reader, { topic, ...decisions }).on(FactStated, ({ n }) => {
        got.push(n);
      });
      return post;
    };
    const first = worker();
    await first.start();
    await producer.publish(FactStated, { n: 2 });
    await first.untilIdle();
    await first.stop();
    await producer.publish(FactStated, { n: 3 });
    expect(await line(producer, reader)).toMatchObject({ kind: "event", channel: topic, backlog: 1, unattended: true });
    const second = worker();
    await second.start();
    await second.untilIdle();
    expect(got).toEqual([2, 3]);
  });

  test("an event of a transaction that was open when its subscription was made is delivered", async () => {
    if (kind.single) return;
    const { topic, reader, FactStated } = contracts();
    const producer = make();
    await producer.publish(FactStated, { n: 0 });
    const got: number[] = [];
    const worker = make();
    worker.subscription(reader, { topic, ...decisions }).on(FactStated, ({ n }) => {
      got.push(n);
    });
    await home.transaction?.(async (tx) => {
      await producer.in(tx).publish(FactStated, { n: 1 });
      await worker.start();
    });
    await worker.untilIdle();
    expect(got).toEqual([1]);
  });

  test("every call after stop() is refused as stopped, and stop() may be called again", async () => {
    const { DoWork, FactStated, queue } = contracts();
    const post = make();
    post.queue(queue, decisions).handle(DoWork, () => undefined);
    await post.start();
    const receipt = await post.send(DoWork, { n: 1 });
    await post.stop();
    const calls: Readonly<Record<string, () => Promise<unknown>>> = {
      send: () => post.send(DoWork, { n: 1 }),
      sendMany: () => post.sendMany(DoWork, [{ n: 1 }]),
      publish: () => post.publish(FactStated, { n: 1 }),
      publishMany: () => post.publishMany(FactStated, [{ n: 1 }]),
      transaction: () => post.transaction(async () => undefined),
      in: () => post.in({}).send(DoWork, { n: 1 }),
      statusOf: () => post.statusOf(receipt.id),
      status: () => receipt.status(),
      settled: () => receipt.settled({ withinMs: 10 }),
      cancel: () => receipt.cancel(),
      receipt: () => post.receipt(receipt.id).status(),
      backlog: () => post.backlog(),
      migrate: () => post.migrate(),
      start: () => post.start(),
      untilIdle: () => post.untilIdle(),
    };
    for (const [name, call] of Object.entries(calls)) {
      const error = await rejected(call());
      expect([name, error.code, error.name]).toEqual([name, "PH_STOPPED", "StoppedError"]);
      expect(error.message).toMatch(/stopped; make a new one/);
    }
    await Promise.all([post.stop(), post.stop({ graceMs: 1 })]);
  });

  test("start() twice is refused, also while the first is under way", async () => {
    const post = make();
    const starting = post.start();
    const during = await rejected(post.start());
    await starting;
    const after = await rejected(post.start());
    for (const error of [during, after]) {
      expect([error.code, error.name]).toEqual(["PH_DECLARED_TWICE", "ConfigurationError"]);
      expect(error.message).toMatch(/^start\(\) was called before/);
    }
  });

  test("what is declared after start() is refused by its name", async () => {
    const { queue, topic, reader, DoWork, FactStated } = contracts();
    const post = make();
    const declared = post.queue(queue, decisions);
    const read = post.subscription(reader, { topic, ...decisions });
    await post.start();
    for (const [call, culprit] of [
      [() => post.queue("late-queue", decisions), "late-queue"],
      [() => post.subscription("late-reader", { topic, ...decisions }), "late-reader"],
      [() => declared.handle(DoWork, () => undefined), DoWork.name],
      [() => read.on(FactStated, () => undefined), FactStated.name],
    ] as const) {
      const error = thrown(call);
      expect(error.code).toBe("PH_DECLARED_LATE");
      expect(error.message).toContain(culprit);
      expect(error.message).toMatch(/after start\(\).*before/);
    }
  });

  test("untilIdle() without start() is refused; while start() is under way it waits for it", async () => {
    const post = make();
    const error = await rejected(post.untilIdle());
    expect([error.code, error.message]).toEqual(["PH_NOT_STARTED", expect.stringMatching(/Call start\(\) first/)]);
    void post.start();
    await post.untilIdle();
  });

  test("start() takes the names of what is declared, and no others", async () => {
    const { queue, topic, reader } = contracts();
    const post = make();
    post.queue(queue, decisions);
    post.subscription(reader, { topic, ...decisions });
    const wrong = async (options: object) => (await rejected(post.start(options))).message;
    expect(await wrong({ queues: [`${queue}x`] })).toMatch(
      new RegExp(`names the queue "${queue}x".*Did you mean "${queue}"`),
    );
    expect(await wrong({ queues: [reader] })).toMatch(/not declared.*Known are: work-/);
    expect(await wrong({ queues: [queue, queue] })).toContain(`"${queue}" twice`);
    expect(await wrong({ queues: queue })).toMatch(/queues must be a list of names, got the string/);
    expect(await wrong({ queue: [queue] })).toMatch(/unknown option "queue".*Did you mean "queues"/);
    expect(await wrong([queue])).toMatch(/takes an object of options, got an array/);
    await post.start({ queues: [queue], subscriptions: [] });
    expect(await line(post, queue)).toMatchObject({ workers: 1 });
    expect(await line(post, reader)).toBeUndefined();
  });

  test("a second instance of a service on one database is refused until the first has stopped", async () => {
    const service = serviceName();
    const first = make(service);
    const error = thrown(() => make(service));
    expect([error.code, error.facts]).toEqual(["PH_DECLARED_TWICE", { service }]);
    expect(error.message).toMatch(new RegExp(`"${service}" has an instance on this database.*or stop it first`));
    await first.stop();
    await make(service).backlog();
  });

  test("stop() without start(), before anything was opened, ends at once; a wrong option rejects and stops nothing", async () => {
    const post = make();
    const stopping: unknown = post.stop({ graceMs: -1 });
    expect(stopping).toBeInstanceOf(Promise);
    expect((await rejected(stopping)).message).toMatch(/graceMs must be an integer from 0/);
    await post.backlog();
    await post.stop();
    await make().stop();
  });

  test("stop() while start() is under way leaves no worker behind", async () => {
    const { queue } = contracts();
    const post = make();
    post.queue(queue, decisions);
    const starting = post.start().catch((error: unknown) => error);
    // Nothing runs, so there is nothing to give a grace time to: this one would be longer than the test may take.
    await post.stop({ graceMs: 600_000 });
    await starting;
    expect(await line(make(), queue)).toMatchObject({ workers: 0 });
  });

  test("await using stops the instance at the end of its block", async () => {
    const service = serviceName();
    {
      await using post = make(service);
      await post.start();
    }
    await make(service).backlog();
  });

  test("stop() lets a running handler finish; one that does not within the grace time is handed back and not lost", async () => {
    const { queue, DoWork } = contracts();
    const post = make();
    const events: string[] = [];
    const begun: number[] = [];
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    post.queue(queue, decisions).handle(DoWork, async ({ n }, { signal }) => {
      begun.push(n);
      if (n === 1) await finished;
      else await new Promise((resolve) => signal.addEventListener("abort", resolve));
      events.push(`${n} ${signal.aborted ? (signal.reason as Error).name : "finished"}`);
    });
    await post.start();
    const [fine, slow] = await post.sendMany(DoWork, [{ n: 1 }, { n: 2 }]);
    await eventually(() => begun.length === 2);
    const stopping = post.stop({ graceMs: 1_000 });
    finish();
    await stopping;
    expect(events.sort()).toEqual(["1 finished", "2 StoppedError"]);
    const other = make();
    expect(await other.statusOf(fine?.id ?? "")).toMatchObject([{ state: "succeeded" }]);
    expect(await other.statusOf(slow?.id ?? "")).toMatchObject([{ state: "queued", attempts: 0 }]);
    expect(StoppedError.name).toBe("StoppedError");
  });

  test("untilIdle() in a transaction handler, which would wait for itself, is refused", async () => {
    const { queue, DoWork } = contracts();
    const post = make();
    const seen: unknown[] = [];
    post.queue(queue, { ...decisions, idempotency: "transaction", retry: retry.none }).handle(DoWork, async () => {
      seen.push((await rejected(post.untilIdle())).code);
    });
    await post.start();
    const receipt = await post.send(DoWork, { n: 1 });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(seen).toEqual(["PH_WOULD_DEADLOCK"]);
  });

  test("two services that disagree about a contract are both named, and nothing is written", async () => {
    const { topic, queue, DoWork, FactStated } = contracts();
    const [first, second] = [serviceName(), serviceName()];
    const [one, other] = [make(first), make(second)];
    await one.publish(FactStated, { n: 1 });
    await one.send(DoWork, { n: 1 });
    const conflicts: readonly (readonly [() => Promise<unknown>, RegExp])[] = [
      [
        () => other.publish(FactStated, { n: 2 }),
        new RegExp(`"${FactStated.name}" is owned by service "${first}", and service "${second}" wants`),
      ],
      [
        () => other.send(command(DoWork.name, { queue: `${queue}-b`, schema: type<{ n: number }>() }), { n: 2 }),
        new RegExp(
          `"${DoWork.name}" is carried by "${queue}" since service "${first}".*service "${second}" declares "${queue}-b"`,
        ),
      ],
      [
        () => other.send(command(DoWork.name, { queue, schema: type<{ n: number }>(), key: () => "k" }), { n: 2 }),
        new RegExp(`Service "${first}" registered "${DoWork.name}" without a key, and service "${second}"`),
      ],
    ];
    for (const [call, message] of conflicts) {
      const error = await rejected(call());
      expect([error.code, error.name]).toEqual(["PH_CONTRACT_CONFLICT", "ContractConflictError"]);
      expect(error.message).toMatch(message);
    }
    const reader = make();
    reader.subscription(queue, { topic, ...decisions });
    const taken = await rejected(reader.start());
    expect([taken.code, taken.message]).toEqual([
      "PH_CONTRACT_CONFLICT",
      expect.stringContaining(`"${queue}" already reads`),
    ]);
    const rows = await home.rows?.(
      "select count(*)::int as n from posthorn.message_1 m join posthorn.contract c on c.id = m.contract where c.name = any ($1)",
      [[DoWork.name, FactStated.name]],
    );
    expect(rows).toEqual([{ n: 2 }]);
  });

  test("a start that failed can be repeated, with what was missing declared in between", async () => {
    const { queue, DoWork } = contracts();
    const post = make();
    await rejected(post.start({ queues: [queue] }));
    post.queue(queue, decisions).handle(DoWork, () => undefined);
    await post.start({ queues: [queue] });
    expect(await (await post.send(DoWork, { n: 1 })).settled({ withinMs: 60_000 })).toMatchObject({
      state: "succeeded",
    });
  });

  test("nothing that happened was worth a warning", () => {
    expect(warnings).toEqual([]);
  });
});
