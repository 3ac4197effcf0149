/**
 * Goal: no credential that was given to a broker, or stands in the URL of the database, comes out again: not in an error, its causes or its properties, not in
 * a log, not in a reason that is stored.
 * Method: a secret that is told apart from everything else is put into every place that takes one; a server on this machine answers with what it got, in every
 * form. All that comes out is looked through, also in base64 and hex.
 */
import { inspect } from "node:util";
import { kafka } from "posthorn/kafka";
import { mqtt } from "posthorn/mqtt";
import { nats } from "posthorn/nats";
import { rabbitmq } from "posthorn/rabbitmq";
import { redis } from "posthorn/redis";
import { sqs } from "posthorn/sqs";
import { webhook } from "posthorn/webhooks";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Broker } from "../../src/brokers/broker.js";
import { reasonOf } from "../../src/core/clean.js";
import { openDatabase } from "../../src/databases/open.js";
import { liars, lyingHttp } from "./liars.js";
import { message } from "./webhooks/places.js";

/** Every letter that a form writes otherwise, and two words to be found by. */
const planted = `Pl4ntedSecret/+&%"é w0rdOfMine`;
const inUrl = encodeURIComponent(planted);
const words = ["Pl4ntedSecret", "w0rdOfMine"];

/** Where one of the words stands in a text, in any form. */
function found(text: string): string | undefined {
  const plain = [text, unescaped(text)];
  const base64 = [...text.matchAll(/[\w+/-]{8,}/g)].flatMap(([run]) =>
    [0, 1, 2, 3].map((from) => Buffer.from(run.slice(from), "base64").toString("latin1")),
  );
  const hex = [...text.matchAll(/[\da-f]{16,}/gi)].map(([run]) => Buffer.from(run, "hex").toString("latin1"));
  const all = [...plain, ...base64, ...hex];
  const at = (one: string) => Math.max(...words.map((word) => one.indexOf(word)));
  const leaks = all.filter((one) => at(one) >= 0).map((one) => one.slice(Math.max(0, at(one) - 40), at(one) + 40));
  return leaks.length === 0 ? undefined : leaks.slice(0, 5).join("\n");
}

function unescaped(text: string): string {
  const once = (one: string) =>
    one.replace(/%([\da-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
  return once(once(text)).replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));
}

/** Everything that somebody could log, store or show of it. */
function allOf(value: unknown): string {
  return [
    inspect(value, { depth: 12, showHidden: true, maxStringLength: null, maxArrayLength: null }),
    JSON.stringify(value, Object.getOwnPropertyNames(Object(value))),
    reasonOf(value),
  ].join("\n");
}

/** Opens it both ways, sends where it opens, and gives what came out. */
async function use(broker: Broker): Promise<readonly unknown[]> {
  const out: unknown[] = [broker.where];
  const options = {
    name: "trial",
    service: "shop",
    signal: AbortSignal.timeout(5_000),
    onTrouble: (error: unknown) => void out.push(error),
  };
  await broker.openSender(options).then(
    async (sender) => {
      out.push(...(await sender.send([message("1")], options.signal)));
      await sender.close();
    },
    (error: unknown) => void out.push(error),
  );
  if (broker.features.receives) {
    await broker.openReceiver(options).then(
      (receiver) => receiver.close(),
      (error: unknown) => void out.push(error),
    );
  }
  return out;
}

const timeoutMs = 2_000;
const signingKey = `whsec_${Buffer.from("Pl4ntedSecret of 24 bytes.").toString("base64")}`;
const sqsBody = (text: string) => JSON.stringify({ __type: "com.amazonaws.sqs#InvalidClientTokenId", message: text });

/** For each place of a secret: the broker, with a server that tells what it got. */
const places: readonly (readonly [string, () => Promise<Broker>])[] = [
  [
    "the password of Redis",
    async () =>
      redis({ url: `redis://me:${inUrl}@127.0.0.1:${await liars.redis()}`, stream: "s", group: "g", timeoutMs }),
  ],
  [
    "a password of Redis without a user",
    async () =>
      redis({ url: `redis://:${inUrl}@127.0.0.1:${await liars.redis()}`, stream: "s", group: "g", timeoutMs }),
  ],
  [
    "the password of NATS",
    async () =>
      nats({ url: `nats://me:${inUrl}@127.0.0.1:${await liars.nats()}`, stream: "s", subject: "t", timeoutMs }),
  ],
  [
    "a token in the URL of NATS",
    async () => nats({ url: `nats://${inUrl}@127.0.0.1:${await liars.nats()}`, stream: "s", subject: "t", timeoutMs }),
  ],
  [
    "a token of NATS",
    async () =>
      nats({ url: `nats://127.0.0.1:${await liars.nats()}`, token: planted, stream: "s", subject: "t", timeoutMs }),
  ],
  [
    "the password of MQTT",
    async () => mqtt({ url: `mqtt://me:${inUrl}@127.0.0.1:${await liars.mqtt()}`, topic: "t", timeoutMs }),
  ],
  [
    "a token as the user of MQTT",
    async () => mqtt({ url: `mqtt://${inUrl}@127.0.0.1:${await liars.mqtt()}`, topic: "t", timeoutMs }),
  ],
  ...[0, 1, 2, 3, 4, 5, 6, 7].map(
    (form) =>
      [
        `the password of RabbitMQ, told in form ${form}`,
        async () =>
          rabbitmq({ url: `amqp://me:${inUrl}@127.0.0.1:${await liars.rabbitmq(form)}`, queue: "q", timeoutMs }),
      ] as const,
  ),
  [
    "the keys of SQS",
    async () =>
      sqs({
        queue: "q",
        url: `http://127.0.0.1:${await lyingHttp(403, sqsBody)}`,
        credentials: {
          accessKeyId: "AKIAPl4ntedSecret",
          secretAccessKey: planted,
          sessionToken: `w0rdOfMine${"x".repeat(20)}`,
        },
        timeoutMs,
      }),
  ],
  [
    "a key in the URL of SQS",
    async () =>
      sqs({
        queue: "q",
        url: `http://AKIAPl4ntedSecret:${inUrl}@127.0.0.1:${await lyingHttp(403, sqsBody)}`,
        timeoutMs,
      }),
  ],
  [
    "the password of Kafka",
    async () =>
      kafka({ url: `kafka://me:${inUrl}@127.0.0.1:${await liars.kafka()}`, topic: "t", group: "g", timeoutMs }),
  ],
  [
    "a token of Kafka",
    async () =>
      kafka({ url: `kafka://127.0.0.1:${await liars.kafka()}`, token: planted, topic: "t", group: "g", timeoutMs }),
  ],
  [
    "a token that is fetched for Kafka",
    async () =>
      kafka({
        url: `kafka://127.0.0.1:${await liars.kafka()}`,
        token: async () => planted,
        topic: "t",
        group: "g",
        timeoutMs,
      }),
  ],
  ...[413, 500].flatMap((status) =>
    [
      ["a password in the URL", (at: string) => ({ url: `http://me:${inUrl}@${at}/` })],
      ["a user in the URL", (at: string) => ({ url: `http://${inUrl}@${at}/` })],
      ["a query", (at: string) => ({ url: `http://${at}/hook?token=${inUrl}` })],
      ["a path", (at: string) => ({ url: `http://${at}/hook/Pl4ntedSecretInAPath` })],
      ["a header", (at: string) => ({ url: `http://${at}/`, headers: { authorization: "Bearer Pl4ntedSecretToken" } })],
      [
        "basic authorization",
        (at: string) => ({
          url: `http://${at}/`,
          headers: { authorization: `Basic ${Buffer.from(`me:${planted}`).toString("base64")}` },
        }),
      ],
      [
        "a key that signs",
        (at: string) => ({ url: `http://${at}/?seen=${signingKey}`, sign: "standard", secrets: [signingKey] }),
      ],
    ].map(
      ([what, options]) =>
        [
          `${String(what)} of a webhook that answers ${status}`,
          async () => {
            const at = `127.0.0.1:${await lyingHttp(status, (text) => text)}`;
            return webhook({
              sign: "none",
              allowPrivate: ["127.0.0.1"],
              ...(options as (at: string) => { url: string })(at),
            });
          },
        ] as const,
    ),
  ),
];

describe("a server that tells what it got", () => {
  test.each(places)("%s comes out nowhere", async (what, make) => {
    const out = await use(await make());
    expect(out.length).toBeGreaterThan(1);
    const text = out.map(allOf).join("\n");
    // It did tell, and that is passed on; but for those whose words are made of the numbers of reasons.
    if (!/MQTT|Kafka/.test(what)) expect(text).toContain("…");
    expect(found(text)).toBeUndefined();
  });
});

test("the password of the database comes out nowhere, whatever the server says of it", async () => {
  const port = await liars.postgres();
  const database = await openDatabase(`postgres://me:${inUrl}@127.0.0.1:${port}/x`);
  onTestFinished(() => database.close());
  const errors = await Promise.all(
    [database.query("select 1"), database.session(), database.listen("x", () => undefined), database.begin({})].map(
      (work) =>
        work.then(
          () => undefined,
          (error: unknown) => error,
        ),
    ),
  );
  for (const error of errors) {
    expect(error).toMatchObject({ code: "PH_DATABASE_REFUSED", message: expect.stringContaining("I got") });
    expect(found(allOf(error))).toBeUndefined();
  }
});
