/** What a relay does with what is said: in which form it goes out, and what becomes of it by what the broker says. */
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Home, twoHomes } from "../producer/homes.js";
import { collect, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { MemoryBroker } from "./memory-broker.js";

let names = 0;
function stage() {
  names += 1;
  const topic = `orders-${names}`;
  const keyed = { topic, schema: type<{ id: string; n: number }>(), key: ({ id }: { id: string }) => id };
  return {
    topic,
    out: `out-${names}`,
    Placed: event(`Order${names}Placed`, keyed),
    Paid: event(`Order${names}Paid`, keyed),
    Shipped: event(`Order${names}Shipped`, keyed),
    ShippedTwo: event(`Order${names}Shipped`, { ...keyed, version: 2 }),
  };
}

describe.each(twoHomes)("a relay on $name", (kind) => {
  let home: Home;
  const told: string[] = [];
  let open: Post<Sql>[] = [];
  const make = (service = serviceName()): Post<Sql> => {
    const logger = collect(told);
    const post = posthorn({ service, database: home.input, migrate: "auto", logger, workerTimeoutMs: 600_000 });
    open.push(post as Post<Sql>);
    return post as Post<Sql>;
  };
  const stopAll = async () => {
    await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
    open = [];
  };
  beforeAll(async () => {
    home = await kind.open();
    await make().migrate();
    await stopAll();
  });
  afterEach(stopAll);
  afterAll(() => home?.close());
  const line = async (post: Post<Sql>, name: string) => (await post.backlog()).find((one) => one.name === name);

  test("every event of a topic goes out with the text that was stored, whatever its name and version, also one that was new to everybody after the start", async () => {
    const { topic, out, Placed, Paid, ShippedTwo } = stage();
    const broker = new MemoryBroker();
    const post = make("shop");
    post.relay(out, {
      ...policies.relay,
      from: { topic },
      to: broker,
      startFrom: "oldest",
      typePrefix: "com.example.",
    });
    const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tenant: "acme" };
    await post.publish(Placed, { id: "a", n: 1 }, { headers });
    await post.start();
    await post.publishMany(Paid, [{ id: "a", n: 2 }]);
    await post.publish(ShippedTwo, { id: "b", n: 3 });
    await eventually(() => broker.received.length === 3);
    await post.untilIdle();
    const [placed, paid, shipped] = broker.received;
    expect(placed).toMatchObject({
      key: "a",
      event: {
        id: expect.stringMatching(/^[\da-f]+-[\da-f]+$/),
        source: "urn:posthorn:shop",
        type: `com.example.${Placed.name}`,
        data: '{"id":"a","n":1}',
        headers: { tenant: "acme" },
        extensions: {
          partitionkey: "a",
          contractversion: "1",
          traceparent: headers.traceparent,
          correlationid: placed?.event.id,
        },
      },
    });
    expect(paid?.event).toMatchObject({ type: `com.example.${Paid.name}`, headers: {} });
    expect(shipped?.event).toMatchObject({
      type: `com.example.${ShippedTwo.name}`,
      extensions: { contractversion: "2", partitionkey: "b" },
    });
    expect(await line(post, out)).toMatchObject({ backlog: 0, running: 0, deadLetters: 0, invalid: 0 });
  });
});
