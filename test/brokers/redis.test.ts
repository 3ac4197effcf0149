/**
 * Goal: what src/brokers/redis promises holds on a real server.
 * Method: the conformance suite, and what only streams have: groups, a full memory, replicas, messages that were removed.
 */
import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { afterEach, describe, expect, test } from "vitest";
import { decode } from "../../src/brokers/envelope.js";
import { type RedisOptions, redis, redisFeatures } from "../../src/brokers/redis/index.js";
import { makeCertificate } from "../support/certificate.js";
import { type OwnService, startService } from "../support/services.js";
import { brokerConformance } from "./conformance.js";
import { brokerDoors } from "./doors.js";
import { lateAnswers } from "./late-answers.js";
import { idsOf, kinds, messages, never, take } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

brokerConformance({
  name: "Redis Streams",
  features: redisFeatures,
  service: () => startService("redis", { password: "pa:ss w%rd" }),
  make: ({ url, destination, timeoutMs }) =>
    redis({ url, stream: destination, group: `${destination}-group`, timeoutMs }),
  unreadable: unreadable("redis"),
  headers: "any",
  tellsUnsent: true,
});

twoServices({
  name: "Redis Streams",
  service: () => startService("redis"),
  way: (url, stream) => ({
    kind: "redis",
    options: { url, stream, timeoutMs: 10_000 },
    reading: { group: `${stream}-group` },
  }),
  everyStep: true,
});

brokerDoors({
  name: "Redis Streams",
  schemes: ["redis", "rediss"],
  certificate: makeCertificate(),
  plain: (options) => startService("redis", { password: "pa:ss w%rd", ...options }),
  tls: async (tls) => (await startService("redis", { password: "pa:ss w%rd", tls })).url,
  make: (url, tls) => redis({ url, stream: "door", group: "door", ...(tls && { tls }) }),
});

const all = (kind: string, count: number) => Array.from({ length: count }, () => kind);

describe("Redis Streams beside the suite", () => {
  test("a full memory takes nothing of a batch, refuses no message for good, and is no reason to leave one out later", async () => {
    const { client, stream, sender, receiver } = await place({ fromBeginning: true });
    const out = await sender();
    await client.config("SET", "maxmemory", "1");
    const sent = await out.send(messages(50), never());
    expect(kinds(sent)).toEqual(all("unavailable", 50));
    expect(sent[0]).toMatchObject({ error: expect.objectContaining({ message: expect.stringContaining("OOM") }) });
    expect(await client.xlen(stream)).toBe(0);
    await client.config("SET", "maxmemory", "0");
    expect(kinds(await out.send(messages(50), never()))).toEqual(all("acknowledged", 50));
    expect((await take(await receiver(), 50)).map((one) => one.headers.ce_id)).toEqual(idsOf(messages(50)));
  });

  test("with replicas a message counts when they have it; a replica itself takes none", async () => {
    const { service, client, sender } = await place({ replicas: 1, timeoutMs: 10_000 });
    await client.config("SET", "repl-diskless-sync-delay", "0");
    const replica = await startService("redis", { settings: { replicaof: `127.0.0.1 ${service.port}` } });
    const { client: copy, sender: toReplica } = await place({}, replica);
    await expect.poll(() => copy.info("replication")).toContain("master_link_status:up");
    const out = await sender();
    expect(kinds(await out.send(messages(3), never()))).toEqual(all("acknowledged", 3));
    const refused = await (await toReplica()).send(messages(1), never());
    expect(refused).toMatchObject([{ kind: "unavailable", error: { message: expect.stringContaining("READONLY") } }]);
    copy.disconnect();
    await replica.kill();
    const lost = await out.send(messages(2), never());
    expect(kinds(lost)).toEqual(all("unavailable", 2));
    expect(lost[0]).toMatchObject({ error: { message: expect.stringContaining("0 of 1 replicas") } });
  });

  test("what was removed before it was acknowledged is told, and the rest comes again in its order", async () => {
    const { client, stream, sender, receiver, trouble } = await place({ fromBeginning: true });
    await (await sender()).send(messages(3), never());
    const first = await receiver();
    const [, second] = await first.receive({ max: 3, waitMs: 60_000, signal: never() });
    await first.close();
    await client.xdel(stream, String(second?.handle));
    const arrived = await take(await receiver(), 2);
    expect(arrived.map((one) => one.headers.ce_id)).toEqual(["message-0", "message-2"]);
    expect(trouble).toEqual([expect.objectContaining({ message: expect.stringContaining("1 messages") })]);
    expect(await client.xpending(stream, `${stream}-group`)).toEqual([0, null, null, null]);
  });

  // Redis goes on with the first that there is, and nothing was told.
  test("what was removed before it was given to the group is told once, with how many, also when a receiver reads meanwhile or may not ask", async () => {
    const { client, stream, service, broker, options, sender, receiver, trouble } = await place({});
    const first = await receiver();
    const out = await sender();
    const notices: string[] = [];
    const opening = async (one = broker) => {
      const next = await one.openReceiver({
        ...options,
        onNotice: (error: unknown) => void notices.push(String(error)),
      });
      opened.push(() => next.close());
      return next;
    };
    await out.send(messages(3), never());
    await first.acknowledge(await first.receive({ max: 3, waitMs: 60_000, signal: never() }));
    await first.close();
    await out.send(messages(10, { from: 3 }), never());
    await client.xtrim(stream, "MAXLEN", 4);
    const second = await opening();
    const arrived = await take(second, 4);
    expect(arrived.map((one) => one.headers.ce_id)).toEqual(idsOf(messages(4, { from: 9 })));
    const told = (count: number) =>
      expect.stringContaining(`${count} messages were removed from the stream before the group was given them`);
    expect(notices).toEqual([told(6)]);
    // In one go, so that it is read by nobody in between.
    await client
      .multi()
      .xadd(stream, "*", "data", "1")
      .xadd(stream, "*", "data", "2")
      .xtrim(stream, "MAXLEN", 1)
      .exec();
    await take(second, 1);
    const reading = async () => {
      expect(await second.receive({ max: 1, waitMs: 100, signal: never() })).toEqual([]);
      return notices;
    };
    await expect.poll(reading, { timeout: 20_000 }).toEqual([told(6), told(1)]);
    await second.close();
    // What was read is nobody's loss, and what was told is not told again.
    await client.xtrim(stream, "MAXLEN", 0);
    await out.send(messages(1, { from: 20 }), never());
    const third = await opening();
    await take(third, 1);
    await third.close();
    expect(notices).toHaveLength(2);
    await client.call("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-xinfo");
    const url = `redis://reader:pw@127.0.0.1:${service.port}`;
    const fourth = await opening(redis({ url, stream, group: `${stream}-group` }));
    await out.send(messages(1, { from: 21 }), never());
    expect((await take(fourth, 1))[0]?.headers.ce_id).toBe("message-21");
    expect(trouble).toEqual([]);
  });

  test("a stream that is removed while a receiver waits is made again, and all that is in the new one comes", async () => {
    const { client, stream, sender, receiver } = await place({});
    const waiting = await receiver();
    const [out, arriving] = [await sender(), take(waiting, 2)];
    await client.del(stream);
    await out.send(messages(2), never());
    expect((await arriving).map((one) => one.headers.ce_id)).toEqual(idsOf(messages(2)));
  });

  test("a stream that was lost while its receiver was gone is made again with all that is in it, and that is told; it began with what came after, without a word", async () => {
    const { client, stream, broker, options, sender, receiver, trouble } = await place({});
    await (await receiver()).close();
    await client.del(stream);
    await (await sender()).send(messages(2), never());
    const notices: string[] = [];
    const again = { ...options, again: true, onNotice: (error: unknown) => void notices.push(String(error)) };
    const next = await broker.openReceiver(again);
    opened.push(() => next.close());
    expect((await take(next, 2)).map((one) => one.headers.ce_id)).toEqual(idsOf(messages(2)));
    await client.del(stream);
    await (await sender()).send(messages(1), never());
    await take(next, 1);
    const lost = expect.stringContaining("had lost the stream or its group; it was made again, and all that is in");
    expect([notices, trouble]).toEqual([[lost, lost], []]);
  });

  // It was handed out twice: the look back knew nothing of it any more when the answer came.
  test("a message that is acknowledged while a look back at what was given before is answered is not handed out again", async () => {
    const { service } = await place({});
    // The question for what was given before ends with the number from where on; that for new messages with ">".
    const late = await lateAnswers(service.url, (said) => said.includes("XREADGROUP") && said.endsWith("$1\r\n0\r\n"));
    opened.push(() => late.close());
    const { sender, receiver } = await place({ url: late.url, fromBeginning: true });
    await (await sender()).send(messages(3), never());
    const reader = await receiver();
    const given = await reader.receive({ max: 3, waitMs: 60_000, signal: never() });
    expect(given).toHaveLength(3);
    late.watch();
    const after = take(reader, 1);
    await late.held;
    await reader.acknowledge(given);
    late.release();
    await (await sender()).send(messages(1, { from: 3 }), never());
    expect((await after).map((one) => one.headers.ce_id)).toEqual(["message-3"]);
  });

  test("what another consumer was given and never acknowledged is taken over, in its order", async () => {
    const { client, stream, sender, receiver } = await place({ idleMs: 1_000 });
    await (await receiver()).close();
    await (await sender()).send(messages(4), never());
    await client.xreadgroup("GROUP", `${stream}-group`, "somebody", "COUNT", 3, "STREAMS", stream, ">");
    const arrived = await take(await receiver(), 4);
    const ids = arrived.map((one) => one.headers.ce_id);
    expect(ids.filter((id) => id !== "message-3")).toEqual(idsOf(messages(3)));
    expect(ids).toHaveLength(4);
  });

  test("a stream keeps about as many messages as it was told to", async () => {
    const { client, stream, sender } = await place({ maxLength: 100 });
    await (await sender()).send(messages(2_000), never());
    const length = await client.xlen(stream);
    expect(length).toBeGreaterThanOrEqual(100);
    expect(length).toBeLessThan(1_000);
  });

  test("an entry that somebody else wrote: its fields are its headers and its payload; bytes that are no text stay what they are", async () => {
    const { client, stream, receiver } = await place({ fromBeginning: true });
    const bytes = Buffer.from([0xff, 0x00, 0xfe]);
    await client.xadd(stream, "*", "Order", "17", "total", "5");
    await client.xadd(stream, "*", "data", bytes, "content-type", "application/octet-stream");
    const [fields, binary] = await take(await receiver(), 2);
    expect(fields).toMatchObject({ headers: { order: "17", total: "5" }, contentType: "application/json" });
    expect(JSON.parse(Buffer.from(fields?.body ?? []).toString())).toEqual({ Order: "17", total: "5" });
    expect(binary).toMatchObject({ headers: {}, contentType: "application/octet-stream", body: bytes });
  });

  // Both ids were "caf\ufffd", and an intake took the second for a repetition of the first.
  test("ids whose bytes are no text are no ids", async () => {
    const { client, stream, broker, receiver } = await place({ fromBeginning: true });
    for (const byte of [0xe8, 0xe9]) {
      const id = Buffer.from([0x63, 0x61, 0x66, byte]);
      await client.xadd(
        stream,
        "*",
        "ce_specversion",
        "1.0",
        "ce_id",
        id,
        "ce_source",
        "/x",
        "ce_type",
        "T",
        "data",
        "1",
      );
    }
    const read = (await take(await receiver(), 2)).map((one) => decode(one, broker.style));
    const problem = { ok: false, problem: "its id is not text in UTF-8" };
    expect(read).toEqual([problem, problem]);
  });

  test("a key that is no stream is no destination", async () => {
    const { client, stream, sender, receiver } = await place({});
    await client.set(stream, "text");
    for (const open of [sender, receiver])
      await expect(open()).rejects.toMatchObject({ code: "PH_BROKER_DESTINATION" });
  });

  // SELECT was refused, and Redis was told as away for ever.
  test("a database that the server does not have is named, and not told as an outage", async () => {
    const { stream, options, service } = await place({});
    const broker = redis({ url: `redis://127.0.0.1:${service.port}`, stream, group: "g", database: 99 });
    for (const open of [() => broker.openSender(options), () => broker.openReceiver(options)])
      await expect(open()).rejects.toMatchObject({
        name: "ConfigurationError",
        code: "PH_BROKER_DESTINATION",
        message: expect.stringMatching(/^Redis at 127\.0\.0\.1:\d+ has no database 99\./),
      });
  });

  test("a password that is wrong is told once, in the words of Redis and without it", async () => {
    const service = await startService("redis", { password: "right" });
    const { stream, options } = await place({}, service);
    const url = `redis://:hunter2@127.0.0.1:${service.port}`;
    const error = await redis({ url, stream })
      .openSender(options)
      .catch((thrown: unknown) => thrown);
    expect(String(error)).toMatch(
      new RegExp(`^ConfigurationError: Redis at 127\\.0\\.0\\.1:${service.port} .* It says: WRONGPASS`),
    );
    expect(String(error)).not.toMatch(/is lost|hunter2/);
    await service.kill();
  });

  test("a receiver needs a group", async () => {
    const { service, stream, options } = await place({});
    const broker = redis({ url: service.url, stream });
    await expect(broker.openReceiver(options)).rejects.toMatchObject({ code: "PH_OPTION_MISSING" });
  });
});

/** What each test has opened. */
const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

let running: Promise<OwnService> | undefined;

/** A stream of its own, a plain client beside it, and what sends to it and receives from it. */
async function place(over: Partial<RedisOptions>, other?: OwnService) {
  running ??= startService("redis");
  const service = other ?? (await running);
  const stream = `beside-${randomBytes(8).toString("hex")}`;
  const trouble: unknown[] = [];
  const broker = redis({ url: service.url, stream, group: `${stream}-group`, ...over });
  const options = {
    name: "beside",
    service: "shop",
    signal: never(),
    onTrouble: (error: unknown) => void trouble.push(error),
  };
  const client = new Redis(service.url, { protocol: 2 });
  opened.push(() => client.disconnect());
  const closing = async <T extends { close(): Promise<void> }>(opening: Promise<T>) => {
    const one = await opening;
    opened.push(() => one.close());
    return one;
  };
  const sender = () => closing(broker.openSender(options));
  const receiver = () => closing(broker.openReceiver(options));
  return { service, stream, trouble, broker, options, client, sender, receiver };
}
