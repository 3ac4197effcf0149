/**
 * Goal: whatever broker a relay sends to or an intake receives from, the promises of src/brokers/broker.ts hold, and its table of features is true.
 * Method: the same rules for each, on the real service, with a network in between that cuts, refuses and swallows. What a broker is declared not to do is
 * tested as well, where that can be seen. Needs test/brokers/scene.ts, test/support/services.ts and test/support/tcp-proxy.ts.
 */
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Incoming, Sender } from "../../src/brokers/broker.js";
import { ConfigurationError } from "../../src/core/errors.js";
import { eventually } from "../support/eventually.js";
import {
  eventOf,
  expectNothing,
  expectOrder,
  hard,
  idsOf,
  kinds,
  messages,
  never,
  type Scene,
  Stage,
  type Subject,
  secret,
  take,
  takeUntil,
} from "./scene.js";

export type { Network, Place, Subject } from "./scene.js";

/** The time that a silent service is given in the tests of silence. */
const shortMs = 1_000;

/** Registers the rules for one broker: `brokerConformance({ name: "MQTT, Mosquitto", … })`. */
export function brokerConformance(subject: Subject): void {
  describe(subject.name, () => {
    let stage: Stage;
    beforeAll(async () => {
      stage = await Stage.open(subject);
    });
    afterEach(() => stage?.clear());
    afterAll(() => stage?.close());
    const given: Given = { subject, stage: () => stage };
    describe("the address", () => addressRules(given));
    describe("the way out", () => sendingRules(given));
    describe("the way out, otherwise", () => otherSendingRules(given));
    describe("the envelope", () => envelopeRules(given));
    if (subject.features.receives) {
      describe("the way in", () => receivingRules(given));
      describe("the way in, waiting", () => waitingRules(given));
    }
    describe("silence", () => silenceRules(given));
    describe("crashes", () => crashRules(given));
  });
}

interface Given {
  readonly subject: Subject;
  readonly stage: () => Stage;
}

async function rejection(act: () => Promise<unknown>): Promise<unknown> {
  return act().then(
    () => expect.fail("it did not reject"),
    (error: unknown) => error,
  );
}

function addressRules({ subject, stage }: Given): void {
  test("a broker has the features of the table, and tells where it is without a password", () => {
    const { broker, place } = stage().missing();
    expect(broker.features).toEqual(subject.features);
    expect(broker.kind).toMatch(/^[a-z]+$/);
    const url = new URL(place.url);
    expect(broker.where).toContain(url.port);
    for (const text of [url.password, "@"].filter((one) => one !== "")) expect(broker.where).not.toContain(text);
  });

  test.each(subject.unreadable)("an address that cannot be read is refused at once, and not repeated (%#)", (url) => {
    const act = () => subject.make({ url, destination: "conformance", timeoutMs: shortMs });
    let thrown: unknown;
    try {
      act();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ConfigurationError);
    expect(thrown).toMatchObject({ code: "PH_BROKER_ADDRESS" });
    expect(url).toContain(secret);
    expect(inspect(thrown, { depth: 8 })).not.toContain(secret);
  });

  test("a wrong password is in no error, and neither is the right one", async () => {
    const scene = await stage().fresh();
    const url = new URL(scene.place.url);
    url.username ||= "somebody";
    url.password = secret;
    const other = scene.at(url.href);
    expect(other.broker.where).not.toContain(secret);
    // A service without users lets everybody in.
    const sender = await other.sender({ signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
    await sender?.send(messages(1), AbortSignal.timeout(10_000));
  });

  const { checksDestination, receives } = subject.features;
  const notThere = `a destination that is not there is ${checksDestination ? "noticed at start" : "no reason not to start"}`;
  test(notThere, async () => {
    const scene = stage().missing();
    for (const open of [() => scene.sender(), ...(receives ? [() => scene.receiver()] : [])]) {
      if (!checksDestination) {
        await open();
        continue;
      }
      const error = await rejection(open);
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(error).toMatchObject({ code: "PH_BROKER_DESTINATION" });
    }
  });
}

function sendingRules({ subject, stage }: Given): void {
  const { order, deduplicates } = subject.features;
  const size = volume(subject, 500);

  test("a batch is acknowledged in its order and arrives in it", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const batch = messages(volume(subject, 2_500), { keys: 5 });
    const sent = await sender.send(batch, never());
    expect(kinds(sent)).toEqual(batch.map(() => "acknowledged"));
    expectOrder(scene.idsOf(await take(await scene.receiver(), batch.length)), batch, order);
  });

  test("nothing to send is nothing sent", async () => {
    const scene = await stage().fresh();
    expect(await (await scene.sender()).send([], never())).toEqual([]);
  });

  test(`${20 * size} messages in batches whose calls overlap all arrive once, each batch in its order`, async () => {
    const scene = await stage().fresh();
    const [sender, receiver] = [await scene.sender(), await scene.receiver()];
    // Keys of their own for each batch: no call waits for another, so order between them is nobody's promise.
    const batches = Array.from({ length: 20 }, (_, i) =>
      messages(size, { from: i * size, keys: 5 }).map((one) => ({ ...one, key: `${one.key}-${i}` })),
    );
    const sending = (async () => {
      for (let i = 0; i < batches.length; i += 4) {
        const sent = await Promise.all(batches.slice(i, i + 4).map((batch) => sender.send(batch, never())));
        for (const one of sent) expect(new Set(kinds(one))).toEqual(new Set(["acknowledged"]));
      }
    })();
    const [taken] = await Promise.all([take(receiver, 20 * size), sending]);
    const ids = scene.idsOf(taken);
    expect(ids).toHaveLength(20 * size);
    for (const batch of batches) expectOrder(ids, batch, order);
  });

  test(`a message that is sent twice with one id arrives ${deduplicates ? "once" : "twice"}`, async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const first = await sender.send(messages(1), never());
    const second = await sender.send([...messages(1), ...messages(1, { from: 1 })], never());
    expect(kinds([...first, ...second])).toEqual(["acknowledged", "acknowledged", "acknowledged"]);
    if (!deduplicates) for (const one of second) expect(one).not.toMatchObject({ duplicate: true });
    const ids = ["message-0", ...(deduplicates ? [] : ["message-0"]), "message-1"];
    const receiver = await scene.receiver();
    expect([...scene.idsOf(await take(receiver, ids.length))].sort()).toEqual(ids);
    await expectNothing(receiver);
  });
}

function otherSendingRules({ subject, stage }: Given): void {
  test("two senders at once do not disturb each other", async () => {
    const scene = await stage().fresh();
    const senders = [await scene.sender(), await scene.sender()];
    const batches = senders.map((_, i) =>
      messages(300, { from: i * 300, keys: 3 }).map((one) => ({ ...one, key: `${one.key}-${i}` })),
    );
    const sent = await Promise.all(senders.map((sender, i) => sender.send(batches[i] ?? [], never())));
    for (const one of sent) expect(new Set(kinds(one))).toEqual(new Set(["acknowledged"]));
    const ids = scene.idsOf(await take(await scene.receiver(), 600));
    for (const batch of batches) expectOrder(ids, batch, subject.features.order);
  });

  const { tooLargeBytes } = subject;
  if (tooLargeBytes !== undefined)
    test("a message that is too large is refused alone", () => refusedAlone(tooLargeBytes));
  async function refusedAlone(bytes: number) {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const large = { event: eventOf(1, { data: JSON.stringify("x".repeat(bytes)) }), key: "key-0" };
    const sent = await sender.send([...messages(1), large, ...messages(1, { from: 2 })], never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "acknowledged"]);
    expect(scene.idsOf(await take(await scene.receiver(), 2))).toEqual(["message-0", "message-2"]);
  }

  test("after close everything is unavailable, and a second close is none", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    await sender.close();
    await sender.close();
    expect(kinds(await sender.send(messages(2), never()))).toEqual(["unavailable", "unavailable"]);
  });

  test("close in the middle of a send neither throws nor leaves it waiting", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const sending = sender.send(messages(500), never());
    await sender.close();
    for (const kind of kinds(await sending)) expect(["acknowledged", "unavailable"]).toContain(kind);
  });
}

function envelopeRules({ subject, stage }: Given): void {
  const { modes = ["binary", "structured"] } = subject;
  const { mode: usual } = subject.features;

  test(`a CloudEvent travels in ${usual} mode unless told otherwise`, async () => {
    const scene = await stage().fresh();
    await (await scene.sender()).send(messages(1), never());
    const [taken] = await take(await scene.receiver(), 1);
    const body: unknown = JSON.parse(Buffer.from(taken?.body ?? []).toString());
    expect(body).toEqual(usual === "structured" ? expect.objectContaining({ specversion: "1.0" }) : { n: 0 });
  });

  test.each(modes)("a CloudEvent arrives as it was sent, in %s mode", async (mode) => {
    const scene = await stage().fresh();
    const sender = await scene.sender({ mode });
    const plain = {
      "x-plain": "one",
      "x-quoted": `"a" %41 \\ ü`,
      ...(subject.headers === "any" && { "x-lines": "two\nlines" }),
    };
    const headers = subject.headers === "none" ? {} : plain;
    const events = hard.map(({ what: _, ...over }, i) => eventOf(i, { ...over, headers }));
    events.push(eventOf(events.length));
    const sent = await sender.send(
      events.map((event) => ({ event, key: "key-0" })),
      never(),
    );
    expect(kinds(sent)).toEqual(events.map(() => "acknowledged"));
    const taken = (await take(await scene.receiver(), events.length)).map((one) => scene.read(one));
    const byId = new Map(taken.map((event) => [event.id, event]));
    for (const event of events) {
      const { headers: given, ...rest } = event;
      expect(byId.get(event.id)).toMatchObject(rest);
      expect(byId.get(event.id)?.headers).toMatchObject(given);
    }
  });
}

/** A fresh destination with so many messages in it. */
async function holding({ stage }: Given, count: number): Promise<Scene> {
  const scene = await stage().fresh();
  const answer = await (await scene.sender()).send(messages(count), never());
  expect(kinds(answer)).toEqual(messages(count).map(() => "acknowledged"));
  return scene;
}

function receivingRules(given: Given): void {
  const { order, stablePosition } = given.subject.features;

  test("no more come than were asked for, and the rest comes later", async () => {
    const scene = await holding(given, 25);
    const taken = await take(await scene.receiver(), 25, { max: 4 });
    expectOrder(scene.idsOf(taken), messages(25), order);
  });

  test("what was received and not acknowledged comes again after close, at the same place", async () => {
    const scene = await holding(given, 5);
    const first = await scene.receiver();
    const before = await takeOnce(first, 5);
    await first.close();
    const again = await take(await scene.receiver(), 5);
    expect([...scene.idsOf(again)].sort()).toEqual(idsOf(messages(5)));
    const places = new Map(again.map((one) => [scene.read(one).id, one.position]));
    for (const one of [...before, ...again]) {
      if (stablePosition) expect(one.position).toEqual(expect.any(String));
      else expect(one.position).toBeUndefined();
    }
    for (const one of before) expect(places.get(scene.read(one).id)).toBe(one.position);
    if (stablePosition) expect(new Set(places.values()).size).toBe(5);
  });

  test("what was acknowledged does not come again, and what was not does", async () => {
    const scene = await holding(given, 5);
    const first = await scene.receiver();
    const [one, ...others] = await takeOnce(first, 5);
    expect(one).toBeDefined();
    if (one !== undefined) await first.acknowledge([one]);
    await first.close();
    const second = await scene.receiver();
    const rest = scene.idsOf(await take(second, 4));
    const [done] = one === undefined ? [] : scene.idsOf([one]);
    expectOrder(
      rest,
      messages(5).filter(({ event }) => event.id !== done),
      order,
    );
    expect(rest).toHaveLength(4);
    expect(rest).toEqual(expect.arrayContaining([...scene.idsOf(others)]));
    await expectNothing(second);
  });
}

function waitingRules(given: Given): void {
  const { stage } = given;

  test("receive comes back without a message when there is none, and at once when the signal fires", async () => {
    const scene = await stage().fresh();
    const receiver = await scene.receiver();
    expect(await receiver.receive({ max: 10, waitMs: 50, signal: never() })).toEqual([]);
    const stop = new AbortController();
    const waiting = receiver.receive({ max: 10, waitMs: 600_000, signal: stop.signal });
    stop.abort();
    expect(await waiting).toEqual([]);
    expect(await receiver.receive({ max: 10, waitMs: 600_000, signal: AbortSignal.abort() })).toEqual([]);
    await (await scene.sender()).send(messages(1), never());
    expect(scene.idsOf(await take(receiver, 1))).toEqual(["message-0"]);
  });

  test("receive does not wait for more than the first message", async () => {
    const scene = await stage().fresh();
    const receiver = await scene.receiver();
    const waiting = receiver.receive({ max: 1_000, waitMs: 600_000, signal: never() });
    await (await scene.sender()).send(messages(1), never());
    expect(scene.idsOf(await waiting)).toEqual(["message-0"]);
  });

  test("close while receive waits neither throws nor leaves it waiting", async () => {
    const scene = await stage().fresh();
    const receiver = await scene.receiver();
    const waiting = receiver.receive({ max: 10, waitMs: 600_000, signal: never() }).catch(() => []);
    await receiver.close();
    await receiver.close();
    expect(await waiting).toEqual([]);
  });

  test("a connection that is lost is told, and the next receiver goes on", async () => {
    const scene = await holding(given, 5);
    const receiver = await scene.receiver();
    await takeOnce(receiver, 5);
    await stage().network.refuse();
    const lost = await eventually(() =>
      receiver.receive({ max: 10, waitMs: 100, signal: never() }).then(nothing, told),
    );
    expect(lost).toBeDefined();
    // Whoever meets it afterwards does not say it again around it.
    expect(String(lost).split(" is lost (").length).toBeLessThanOrEqual(2);
    await receiver.close();
    await stage().network.accept();
    expect([...scene.idsOf(await take(await scene.receiver(), 5))].sort()).toEqual(idsOf(messages(5)));
  });
}

const nothing = () => undefined;
const told = (error: unknown) => error;

/** What one receive gives: at least one message. */
async function takeOnce(
  receiver: { receive: (o: { max: number; waitMs: number; signal: AbortSignal }) => Promise<readonly Incoming[]> },
  max: number,
): Promise<readonly Incoming[]> {
  const got = await receiver.receive({ max, waitMs: 60_000, signal: never() });
  expect(got.length).toBeGreaterThan(0);
  return got;
}

/** How many messages there are where many are needed. */
function volume({ share = 1 }: Subject, usual: number): number {
  return Math.ceil(usual * share);
}

const all = (kind: string, count: number) => Array.from({ length: count }, () => kind);

/** A later send works again by itself. Where it does not, the service may have said why. */
async function worksAgain(stage: Stage, sender: Sender, from: number): Promise<void> {
  try {
    await eventually(async () => {
      const sent = await sender.send(messages(1, { from }), AbortSignal.timeout(10_000));
      expect(kinds(sent), inspect(sent, { depth: 4 })).toEqual(["acknowledged"]);
      return true;
    });
  } catch (cause) {
    throw new Error(`no send works again; the last that the service has printed:\n${await stage.printed()}`, { cause });
  }
}

function silenceRules({ subject, stage }: Given): void {
  test("refused connections: opening fails for now, a send is unavailable, and later works again by itself", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    await stage().network.refuse();
    for (const open of [() => scene.sender(), ...(subject.features.receives ? [() => scene.receiver()] : [])]) {
      const error = await rejection(open);
      expect(error).toBeInstanceOf(Error);
      expect(error).not.toBeInstanceOf(ConfigurationError);
    }
    expect(kinds(await sender.send(messages(3), never()))).toEqual(all("unavailable", 3));
    const sent = await sender.send(messages(3), never());
    const unsent = sent.map((one) => one.kind === "unavailable" && one.unsent === true);
    if (subject.tellsUnsent === true) expect(unsent).toEqual([true, true, true]);
    await stage().network.accept();
    await worksAgain(stage(), sender, 3);
  });

  test("a service that goes silent is unavailable when the signal fires, and later works again by itself", async () => {
    const scene = await stage().fresh({ timeoutMs: shortMs });
    const sender = await scene.sender();
    await sender.send(messages(1), never());
    stage().network.weather("black hole");
    const stop = new AbortController();
    const sending = sender.send(messages(3, { from: 1 }), stop.signal);
    stop.abort();
    expect(kinds(await sending)).toEqual(all("unavailable", 3));
    expect(kinds(await sender.send(messages(1, { from: 4 }), AbortSignal.abort()))).toEqual(["unavailable"]);
    stage().network.weather("fair");
    await worksAgain(stage(), sender, 5);
  });

  test("a service that goes silent is unavailable after a while without any signal", async () => {
    const scene = await stage().fresh({ timeoutMs: shortMs });
    const sender = await scene.sender();
    stage().network.weather("black hole");
    expect(kinds(await sender.send(messages(3), never()))).toEqual(all("unavailable", 3));
    expect(await rejection(() => scene.sender())).not.toBeInstanceOf(ConfigurationError);
    const stop = AbortSignal.timeout(50);
    expect(await rejection(() => scene.sender({ signal: stop }))).not.toBeInstanceOf(ConfigurationError);
  });
}

function crashRules({ subject, stage }: Given): void {
  const many = volume(subject, 3_000);

  test("a connection that is cut in mid-batch loses nothing that was acknowledged", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const batch = messages(many);
    const sending = sender.send(batch, never());
    stage().network.cut();
    const sent = await sending;
    for (const { kind } of sent) expect(["acknowledged", "unavailable"]).toContain(kind);
    await worksAgain(stage(), sender, many);
    const wanted = [`message-${many}`, ...idsOf(batch.filter((_, i) => sent[i]?.kind === "acknowledged"))];
    const taken = await takeUntil(await scene.receiver(), holds(scene, wanted));
    expect(new Set(scene.idsOf(taken)).size).toBeGreaterThanOrEqual(wanted.length);
  });

  test("a restart of the service in mid-batch: sends work again by themselves, and what it keeps is there", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const early = await sender.send(messages(20), never());
    const batch = messages(many, { from: 20 });
    const sending = sender.send(batch, never());
    await stage().service.restart();
    const sent = await sending;
    await worksAgain(stage(), sender, many + 20);
    if (stage().service.keeps === "nothing") return;
    const said = [...messages(20), ...batch].filter((_, i) => [...early, ...sent][i]?.kind === "acknowledged");
    await takeUntil(await scene.receiver(), holds(scene, [...idsOf(said), `message-${many + 20}`]));
  });

  test("a service that is killed in mid-batch: sends work again by themselves, and what it keeps is there", async () => {
    const scene = await stage().fresh();
    const sender = await scene.sender();
    const batch = messages(many);
    await stage().service.settled?.();
    const sending = sender.send(batch, never());
    await stage().service.kill();
    const sent = await sending;
    for (const { kind } of sent) expect(["acknowledged", "unavailable"]).toContain(kind);
    expect(kinds(await sender.send(messages(2), never()))).toEqual(all("unavailable", 2));
    await stage().service.restart();
    await worksAgain(stage(), sender, many);
    if (stage().service.keeps !== "kill") return;
    const said = idsOf(batch.filter((_, i) => sent[i]?.kind === "acknowledged"));
    await takeUntil(await scene.receiver(), holds(scene, [...said, `message-${many}`]));
  });

  test("nothing stays open after close", async () => {
    const scene = await stage().fresh();
    await (await scene.sender()).send(messages(1), never());
    if (subject.features.receives) await take(await scene.receiver(), 1);
    expect(stage().network.open).toBeGreaterThan(0);
    await scene.end();
    await eventually(() => stage().network.open === 0);
  });
}

function holds(scene: Scene, wanted: readonly string[]): (taken: readonly Incoming[]) => boolean {
  return (taken) => {
    if (taken.length < wanted.length) return false;
    const ids = new Set(scene.idsOf(taken));
    return wanted.every((id) => ids.has(id));
  };
}
