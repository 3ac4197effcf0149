import { listener } from "posthorn/http";
import {
  newWebhookKeyPair,
  newWebhookSecret,
  type WebhookIntake,
  type WebhookIntakeOptions,
  webhookIntake,
} from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import type { Incoming, Receiver } from "../../../src/brokers/broker.js";
import { decode } from "../../../src/brokers/envelope.js";
import { message, never, open, receiverOf, secret, sendOne, serve } from "./places.js";

const now = () => Math.floor(Date.now() / 1000);
const hooks = (options: WebhookIntakeOptions = {}) => webhookIntake({ secrets: [secret], ...options });

interface Posted {
  readonly id?: string;
  readonly at?: number;
  readonly body?: string;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function signed({
  id = "msg_1",
  at = now(),
  body = '{"type":"order.placed"}',
  key = secret,
  headers = {},
}: Posted = {}): Request {
  return new Request("https://shop.example/hooks", {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(at),
      "webhook-signature": new Oracle(key).sign(id, new Date(at * 1000), body),
      ...headers,
    },
    body,
  });
}

const take = (receiver: Receiver, max = 10): Promise<readonly Incoming[]> =>
  receiver.receive({ max, waitMs: 60_000, signal: never });
const texts = (messages: readonly Incoming[]) => messages.map(({ body }) => Buffer.from(body).toString());
/** Still open after everything that could end it has had its turn. */
async function isOpen(promise: Promise<unknown>): Promise<boolean> {
  const open = Symbol("open");
  const turn = new Promise((resolve) => setImmediate(() => setImmediate(() => resolve(open))));
  return (await Promise.race([promise, turn])) === open;
}

describe("a webhook", () => {
  test("is answered 204 when it is acknowledged, and not a moment before", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const answer = intake.fetch(signed());
    const [one] = await take(receiver);
    expect(one).toMatchObject({ id: "msg_1", contentType: "application/json", headers: {} });
    expect(texts(one === undefined ? [] : [one])).toEqual(['{"type":"order.placed"}']);
    expect(await isOpen(answer)).toBe(true);
    await receiver.acknowledge(one === undefined ? [] : [one]);
    expect((await answer).status).toBe(204);
  });

  test("comes again with its id when its sender repeats it, whatever its body is then: the inbox tells", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const answers = [intake.fetch(signed({ body: "1" })), intake.fetch(signed({ body: "2" }))];
    const taken: Incoming[] = [];
    while (taken.length < 2) taken.push(...(await take(receiver)));
    expect(taken.map(({ id }) => id)).toEqual(["msg_1", "msg_1"]);
    await receiver.acknowledge(taken);
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([204, 204]);
  });

  test.each<[string, () => Request, WebhookIntakeOptions?]>([
    ["of another secret", () => signed({ key: newWebhookSecret() })],
    ["that is too old", () => signed({ at: now() - 400 })],
    ["that is too far ahead", () => signed({ at: now() + 400 })],
    ["without a signature", () => new Request("https://x/", { method: "POST", body: "{}" })],
    ["with another id than was signed", () => signed({ headers: { "webhook-id": "msg_2" } })],
    ["with another time than was signed", () => signed({ headers: { "webhook-timestamp": String(now() - 1) } })],
    ["with another body than was signed", () => new Request(signed(), { body: "{}" })],
    ["with an id that has a dot", () => signed({ id: "a.b" })],
    ["older than the tolerance that was chosen", () => signed({ at: now() - 60 }), { toleranceMs: 30_000 }],
  ])("%s is answered 401 without a word about why, and nobody gets it", async (_what, request, options) => {
    const intake = hooks(options);
    const receiver = await receiverOf(intake);
    const answer = await intake.fetch(request());
    expect([answer.status, await answer.text()]).toEqual([401, "The webhook is not accepted.\n"]);
    expect(await receiver.receive({ max: 1, waitMs: 0, signal: never })).toEqual([]);
  });

  test("is accepted with each of the secrets, and with the public half of a pair", async () => {
    const [old, pair] = [newWebhookSecret(), newWebhookKeyPair()];
    const intake = webhookIntake({ secrets: [secret, old, pair.publicKey], path: "/hooks" });
    const receiver = await receiverOf(intake);
    const { url } = await serve(listener(intake.fetch));
    const sent = [secret, old, pair.secretKey].map(async (key, i) =>
      sendOne(await open(`${url}/hooks`, { secrets: [key] }), message(`m${i}`)),
    );
    const ids = new Set<string | undefined>();
    while (ids.size < 3) {
      const taken = await take(receiver);
      for (const { id } of taken) ids.add(id);
      await receiver.acknowledge(taken);
    }
    expect((await Promise.all(sent)).map(({ kind }) => kind)).toEqual(Array(3).fill("acknowledged"));
  });

  test("is what webhook() sends: the event arrives whole, its headers too, and nothing of the transport or of credentials", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const { url } = await serve(listener(intake.fetch));
    const one = message("0198-7", { data: '{"name":"Žofie 😀"}', headers: { "x-shop": "Žofie", "x-plain": "p" } });
    // Only cookie and authorization were left out: a key of an API went into the database, to handlers, and to wherever a relay sends on.
    const credentials = { cookie: "c=1", "x-api-key": "k-hunter2", "X-Auth-Token": "t-hunter2", apikey: "a-hunter2" };
    const sent = sendOne(await open(`${url.replace("://", "://ada:hunter2@")}/x`, { headers: credentials }), one);
    const [got] = await take(receiver);
    if (got === undefined) throw new Error("nothing came");
    expect(got.headers).toEqual({ "x-shop": "Žofie", "x-plain": "p" });
    const { headers: _headers, ...event } = one.event;
    expect(decode(got, intake.style)).toMatchObject({ ok: true, event });
    await receiver.acknowledge([got]);
    expect(await sent).toEqual({ kind: "acknowledged" });
  });

  test("in binary mode is refused, since no signature covers its attributes, unless that was chosen", async () => {
    const headers = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "OrderPlaced" };
    const answer = await (async () => {
      const intake = hooks();
      await receiverOf(intake);
      return intake.fetch(signed({ headers }));
    })();
    expect(answer.status).toBe(415);
    expect(await answer.text()).toContain("structured mode");
    for (const intake of [hooks({ unsignedAttributes: "accept" }), webhookIntake({ verify: "none" })]) {
      const receiver = await receiverOf(intake);
      void intake.fetch(signed({ headers }));
      expect(
        decode((await take(receiver))[0] ?? { headers: {}, contentType: "", body: Buffer.alloc(0) }, intake.style),
      ).toMatchObject({ ok: true, event: { id: "1", type: "OrderPlaced" } });
    }
  });

  test("without a signature is taken only where that was said", async () => {
    const intake = webhookIntake({ verify: "none" });
    const receiver = await receiverOf(intake);
    const answer = intake.fetch(
      new Request("https://x/", { method: "POST", body: "{}", headers: { "webhook-id": "m" } }),
    );
    const taken = await take(receiver);
    expect(taken[0]).toMatchObject({ id: "m" });
    await receiver.acknowledge(taken);
    expect((await answer).status).toBe(204);
    expect(() => webhookIntake({})).toThrow(expect.objectContaining({ code: "PH_OPTION_MISSING" }));
    expect(() => webhookIntake({ verify: "none", secrets: [secret] })).toThrow(
      expect.objectContaining({ code: "PH_OPTION_INVALID" }),
    );
  });
});

describe("503 and Retry-After", () => {
  const later = async (answer: Response | Promise<Response>, seconds = "5") => {
    const { status, headers } = await answer;
    expect([status, headers.get("retry-after")]).toEqual([503, seconds]);
  };

  test("is the answer while no intake runs, before it began and after it ended", async () => {
    const intake = hooks({ retryAfterMs: 1_500, commitTimeoutMs: 120_000 });
    // Long enough: whoever is answered here is answered because of the end.
    await later(intake.fetch(signed()), "2");
    const receiver = await receiverOf(intake);
    const held = intake.fetch(signed({ id: "held" }));
    await take(receiver);
    const waits = intake.fetch(signed({ id: "waits" }));
    await isOpen(waits);
    await receiver.close();
    await later(held, "2");
    await later(waits, "2");
    await later(intake.fetch(signed()), "2");
    // A new receiver begins with nothing: what was answered 503 is its sender's again.
    expect(await (await receiverOf(intake)).receive({ max: 9, waitMs: 0, signal: never })).toEqual([]);
  });

  test.each<[string, WebhookIntakeOptions]>([
    ["messages", { maxPending: 2 }],
    ["bytes", { maxPendingBytes: 30 }],
  ])("is the answer while as many %s wait as may, until one of them is stored", async (_what, options) => {
    const intake = hooks(options);
    const receiver = await receiverOf(intake);
    const body = "x".repeat(15);
    const first = intake.fetch(signed({ id: "1", body }));
    const second = intake.fetch(signed({ id: "2", body }));
    const taken: Incoming[] = [];
    while (taken.length < 2) taken.push(...(await take(receiver)));
    await later(intake.fetch(signed({ id: "3", body })));
    await receiver.acknowledge(taken.slice(0, 1));
    expect((await first).status).toBe(204);
    const fourth = intake.fetch(signed({ id: "4", body }));
    const more = await take(receiver);
    await receiver.acknowledge([...taken.slice(1), ...more]);
    expect([(await second).status, (await fourth).status]).toEqual([204, 204]);
  });

  test("is the answer when the commit does not come in time: a message that nobody took is forgotten, and a late acknowledgement of a taken one changes nothing", async () => {
    const intake = hooks({ commitTimeoutMs: 100 });
    const receiver = await receiverOf(intake);
    await later(intake.fetch(signed({ id: "untaken" })));
    expect(await receiver.receive({ max: 9, waitMs: 0, signal: never })).toEqual([]);
    const answer = intake.fetch(signed({ id: "taken" }));
    const taken = await take(receiver);
    await later(answer);
    await receiver.acknowledge(taken);
    // There is room again, and everything works.
    const next = intake.fetch(signed({ id: "next" }));
    await receiver.acknowledge(await take(receiver));
    expect((await next).status).toBe(204);
  });

  test("is the answer for the messages of a batch that were not acknowledged when the intake ends, and 204 for the first of them, which were", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const answers = ["1", "2", "3"].map((id) => intake.fetch(signed({ id })));
    const taken: Incoming[] = [];
    while (taken.length < 3) taken.push(...(await take(receiver)));
    expect(taken.map(({ id }) => id)).toEqual(["1", "2", "3"]);
    await receiver.acknowledge(taken.slice(0, 2));
    await receiver.close();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([204, 204, 503]);
    await receiver.acknowledge(taken);
  });
});

describe("a receiver", () => {
  test("hands over at most as many as were asked for, in their order, and returns when its signal fires", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const answers = ["a", "b", "c"].map((body) => intake.fetch(signed({ id: body, body })));
    await isOpen(Promise.all(answers));
    await isOpen(Promise.all(answers));
    const taken = [...(await take(receiver, 2)), ...(await take(receiver, 2))];
    expect(texts(taken)).toEqual(["a", "b", "c"]);
    const giveUp = new AbortController();
    const nothing = receiver.receive({ max: 1, waitMs: 600_000, signal: giveUp.signal });
    giveUp.abort();
    expect(await nothing).toEqual([]);
    expect(await receiver.receive({ max: 1, waitMs: 600_000, signal: giveUp.signal })).toEqual([]);
    await receiver.acknowledge(taken);
    await Promise.all(answers);
  });

  test("may share its webhooks with another one: each is handed over once, and the end of one leaves the other alone", async () => {
    const intake = hooks();
    const [one, other] = [await receiverOf(intake), await receiverOf(intake)];
    const first = intake.fetch(signed({ id: "1" }));
    const taken = await take(one);
    await one.close();
    expect((await first).status).toBe(503);
    const second = intake.fetch(signed({ id: "2" }));
    // Handles of a message are for the receiver that gave it.
    await other.acknowledge(taken);
    await other.acknowledge(await take(other));
    expect((await second).status).toBe(204);
  });
});

describe("a request", () => {
  test("that is no webhook is refused by what is wrong with it, and its body is not read", async () => {
    const intake = hooks({ path: "/hooks", maxBytes: 100 });
    await receiverOf(intake);
    const ask = async (request: Request) => {
      const { status, headers } = await intake.fetch(request);
      return [status, request.bodyUsed, headers.get("allow")];
    };
    expect(await ask(new Request("https://x/other", { method: "POST", body: "{}" }))).toEqual([404, false, null]);
    expect(await ask(new Request("https://x/hooks/", { method: "POST", body: "{}" }))).toEqual([404, false, null]);
    for (const method of ["GET", "PUT", "DELETE", "OPTIONS"])
      expect(await ask(new Request("https://x/hooks?a=b", { method }))).toEqual([405, false, "POST"]);
    expect(await ask(signed({ headers: { "content-encoding": "gzip" } }))).toEqual([415, false, null]);
    expect(await ask(signed({ headers: { "content-length": "101" } }))).toEqual([413, false, null]);
    expect(await ask(signed({ at: 5 }))).toEqual([401, false, null]);
  });

  test("whose body somebody has read before is a mistake of this side, and is said to be one", async () => {
    const intake = hooks();
    await receiverOf(intake);
    const request = signed();
    await request.text();
    await expect(intake.fetch(request)).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
  });

  test("without a body is a webhook without a body", async () => {
    const intake = hooks();
    const receiver = await receiverOf(intake);
    const signature = new Oracle(secret).sign("e", new Date(now() * 1000), "");
    const headers = { "webhook-id": "e", "webhook-timestamp": String(now()), "webhook-signature": signature };
    const answer = intake.fetch(new Request("https://x/", { method: "POST", headers }));
    const taken = await take(receiver);
    expect(texts(taken)).toEqual([""]);
    await receiver.acknowledge(taken);
    expect((await answer).status).toBe(204);
  });
});

test("an intake only receives, tells what it can, and refuses options that it does not know", async () => {
  const intake: WebhookIntake = hooks({ path: "/hooks" });
  expect(intake).toMatchObject({
    kind: "webhooks",
    where: "its fetch handler at /hooks",
    features: { sends: false, receives: true },
  });
  await expect(
    intake.openSender({ name: "x", service: "shop", signal: never, onTrouble: () => undefined }),
  ).rejects.toMatchObject({
    code: "PH_OPTION_INVALID",
  });
  const bad: object[] = [
    { tolerance: 1 },
    { toleranceMs: 1 },
    { maxBytes: 0 },
    { path: "hooks" },
    { path: "/a?b" },
    { path: "/a/../b" },
    { verify: "yes" },
  ];
  for (const options of bad)
    expect(() => hooks(options)).toThrow(expect.objectContaining({ code: expect.stringMatching(/^PH_OPTION_/) }));
});
