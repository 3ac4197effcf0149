/**
 * Goal: whoever runs a receiver of webhooks learns of each request that is refused and why, in words of the library alone; and of what no sender means, that it
 * is that.
 */
import { newWebhookSecret, type WebhookIntake, type WebhookIntakeOptions, webhookIntake } from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { expect, test } from "vitest";
import type { Refusal } from "../../../src/brokers/broker.js";
import { refusalTexts } from "../../../src/brokers/webhooks/refusals.js";
import { receiverOf, secret } from "./places.js";

const path = "/hooks";
/** Stands in all that a request brings. */
const rubbish = "rubbish-4711";
const now = () => Math.floor(Date.now() / 1000);
const huge = (bytes: number) => "x".repeat(bytes);

interface Given {
  readonly key?: string;
  readonly id?: string;
  readonly at?: number;
  readonly body?: string;
  readonly method?: string;
  readonly url?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function signed({ key = secret, id = rubbish, at = now(), body = rubbish, method = "POST", url, headers }: Given = {}) {
  return new Request(url ?? `https://shop.example${path}?${rubbish}`, {
    method,
    headers: {
      "x-rubbish": rubbish,
      "webhook-id": id,
      "webhook-timestamp": String(at),
      "webhook-signature": new Oracle(key).sign(id, new Date(at * 1000), body),
      ...headers,
    },
    ...(method === "GET" ? {} : { body }),
  });
}

const plain = (init: RequestInit = {}, at = path) =>
  new Request(`https://shop.example${at}`, {
    method: "POST",
    body: rubbish,
    headers: { "x-rubbish": rubbish },
    ...init,
  });

function heard(options: WebhookIntakeOptions = {}): { readonly intake: WebhookIntake; readonly told: Refusal[] } {
  const intake = webhookIntake({ secrets: [secret], path, maxBytes: 1_000, ...options });
  const told: Refusal[] = [];
  intake.onRefused?.((refusal) => told.push(refusal));
  return { intake, told };
}

const stalled = () =>
  plain({
    ...({ duplex: "half" } as object),
    headers: signed().headers,
    body: new ReadableStream({ pull: () => new Promise(() => undefined) }),
  });
const broken = () =>
  plain({
    ...({ duplex: "half" } as object),
    headers: signed().headers,
    body: new ReadableStream({ pull: (controller) => controller.error(new Error(rubbish)) }),
  });

test.each<[keyof typeof refusalTexts, number, () => Request, WebhookIntakeOptions?]>([
  ["signature", 401, () => signed({ key: newWebhookSecret() })],
  ["old", 401, () => signed({ at: now() - 400 })],
  ["ahead", 401, () => signed({ at: now() + 400 })],
  ["time", 401, () => signed({ headers: { "webhook-timestamp": rubbish } })],
  ["id", 401, () => signed({ id: `${rubbish}.${rubbish}` })],
  ["path", 404, () => signed({ url: `https://shop.example/hooks/${rubbish}` })],
  ["method", 405, () => signed({ method: "PUT" })],
  ["encoding", 415, () => signed({ headers: { "content-encoding": "gzip" } })],
  ["binary", 415, () => signed({ headers: { "ce-specversion": "1.0" } })],
  ["headers", 431, () => signed({ headers: { [rubbish]: huge(70_000) } })],
  ["large", 413, () => signed({ body: huge(1_001) })],
  ["large", 413, () => signed({ headers: { "content-length": "1001" } })],
  ["slow", 408, stalled, { bodyTimeoutMs: 100 }],
  ["broken", 400, broken],
  ["late", 503, () => signed(), { commitTimeoutMs: 100 }],
])(
  "one that is refused for %s is answered %i, and told once as one that was meant for this place",
  async (why, status, request, options) => {
    const { intake, told } = heard(options);
    await receiverOf(intake);
    expect((await intake.fetch(request())).status).toBe(status);
    expect(told).toEqual([{ reason: refusalTexts[why], meant: true }]);
    expect(JSON.stringify(told)).not.toContain(rubbish);
    expect(refusalTexts[why]).toContain(`answered ${status}`);
  },
);

test("what no sender means counts as that, and what is not posted to this place at all is nothing to tell", async () => {
  const { intake, told } = heard();
  await receiverOf(intake);
  const half = { "webhook-id": rubbish, "webhook-timestamp": String(now()) };
  for (const headers of [{}, half, { ...half, "webhook-signature": rubbish }]) {
    expect((await intake.fetch(plain({ headers }))).status).toBe(401);
  }
  expect((await intake.fetch(plain({ headers: { "content-length": "5000" } }))).status).toBe(413);
  expect(told).toEqual([
    ...Array.from({ length: 3 }, () => ({ reason: refusalTexts.unsigned, meant: false })),
    { reason: refusalTexts.large, meant: false },
  ]);
  await intake.fetch(plain({}, "/wp-login.php"));
  await intake.fetch(new Request(`https://shop.example${path}`));
  expect(told).toHaveLength(4);
});

test("while no intake runs, and when more wait than may, it is told why they are answered 503; what is stored is nothing to tell", async () => {
  const { intake, told } = heard({ maxPending: 1 });
  expect((await intake.fetch(signed())).status).toBe(503);
  const receiver = await receiverOf(intake);
  const held = intake.fetch(signed());
  const taken = await receiver.receive({ max: 1, waitMs: 60_000, signal: new AbortController().signal });
  expect((await intake.fetch(signed({ id: "second" }))).status).toBe(503);
  await receiver.acknowledge(taken);
  expect((await held).status).toBe(204);
  const left = intake.fetch(signed({ id: "third" }));
  await receiver.receive({ max: 1, waitMs: 60_000, signal: new AbortController().signal });
  await receiver.close();
  expect((await left).status).toBe(503);
  expect(told).toEqual([
    { reason: refusalTexts.idle, meant: false },
    { reason: refusalTexts.full, meant: true },
    { reason: refusalTexts.idle, meant: false },
  ]);
});

test("where nothing is verified everything at this place is meant for it", async () => {
  const intake = webhookIntake({ verify: "none", maxBytes: 1 });
  const told: Refusal[] = [];
  intake.onRefused?.((refusal) => told.push(refusal));
  await receiverOf(intake);
  expect((await intake.fetch(plain())).status).toBe(413);
  expect(told).toEqual([{ reason: refusalTexts.large, meant: true }]);
});
