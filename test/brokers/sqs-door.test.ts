/** Who is not let in by SQS, and who comes with TLS where there is none: servers of our own that answer as SQS does, since ElasticMQ takes any key. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";
import { sqs } from "posthorn/sqs";
import { expect, onTestFinished, test } from "vitest";
import { ConfigurationError } from "../../src/core/errors.js";
import { eventually } from "../support/eventually.js";
import { ownCertificate } from "./webhooks/certificate.js";

async function served(server: Server & { closeAllConnections(): void }): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function answering(code: string, status = 403) {
  const body = JSON.stringify({ __type: `com.amazon.coral.service#${code}`, message: "as it says" });
  return createServer((request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "application/x-amz-json-1.0" }).end(body);
  });
}

async function refusalAt(url: string): Promise<unknown> {
  const broker = sqs({ url: url.replace("//", "//id:hunter2-hunter2@"), queue: "orders", timeoutMs: 5_000 });
  const options = { name: "door", service: "shop", signal: new AbortController().signal, onTrouble: () => undefined };
  const error = await broker.openSender(options).then(
    () => "it opened",
    (reason: unknown) => reason,
  );
  expect(error).not.toMatchObject({ message: expect.stringContaining("hunter2") });
  return error;
}

// They were told as an outage: "Messages wait, and go out when it is back".
test.each([
  ["InvalidClientTokenId", /does not let this client in: .*Correct it\. It says: as it says\.$/],
  ["UnrecognizedClientException", /does not let this client in/],
  ["SignatureDoesNotMatch", /does not let this client in/],
  ["ExpiredTokenException", /does not let this client in/],
  ["AccessDenied", /does not allow this user what is needed here\. Give it the right\./],
  ["AccessDeniedException", /does not allow this user what is needed here/],
])("%s is no outage: it is told that the key is refused, or a right is missing", async (code, text) => {
  const error = await refusalAt(`http://127.0.0.1:${await served(answering(code))}`);
  expect(error).toBeInstanceOf(ConfigurationError);
  expect(error).toMatchObject({ code: "PH_BROKER_DENIED", message: expect.stringMatching(text) });
});

test("an answer that says that SQS is not well is an outage", async () => {
  const error = await refusalAt(`http://127.0.0.1:${await served(answering("ServiceUnavailable", 503))}`);
  expect(error).toMatchObject({ message: expect.stringContaining("SQS cannot be reached") });
  expect(error).not.toBeInstanceOf(ConfigurationError);
});

// What SQS refused to prolong counted as prolonged: it was handed out when another had it already.
test("a message whose time SQS does not prolong is not handed out once that time is over", async () => {
  const md5 = (text: string) => createHash("md5").update(text).digest("hex");
  const messages = ["kept", "lost"].map((one) => ({
    Body: one,
    MD5OfBody: md5(one),
    MessageId: one,
    ReceiptHandle: one,
  }));
  let refusals = 0;
  const prolong = (entries: readonly { Id: string; ReceiptHandle: string }[]) => {
    const of = (handle: string) => entries.filter((one) => one.ReceiptHandle === handle).map(({ Id }) => ({ Id }));
    refusals += of("lost").length;
    return {
      Successful: of("kept"),
      Failed: of("lost").map((one) => ({ ...one, Code: "InvalidParameterValue", SenderFault: true })),
    };
  };
  const answers: Readonly<Record<string, (asked: { Entries: [] }) => object>> = {
    GetQueueUrl: () => ({ QueueUrl: "http://127.0.0.1/000/orders" }),
    GetQueueAttributes: () => ({ Attributes: {} }),
    ReceiveMessage: () => ({ Messages: messages.splice(0) }),
    ChangeMessageVisibilityBatch: ({ Entries }) => prolong(Entries),
  };
  const server = createServer(async (request, response) => {
    const answer = answers[String(request.headers["x-amz-target"]).replace("AmazonSQS.", "")];
    const body = JSON.stringify(answer?.(JSON.parse(await text(request))) ?? {});
    response.writeHead(200, { "content-type": "application/x-amz-json-1.0" }).end(body);
  });
  const url = `http://id:hunter2-hunter2@127.0.0.1:${await served(server)}`;
  const broker = sqs({ url, queue: "orders", visibilityMs: 5_000, pollMs: 1_000, timeoutMs: 5_000 });
  const { signal } = new AbortController();
  const receiver = await broker.openReceiver({ name: "door", service: "shop", signal, onTrouble: () => undefined });
  const bodies = async (max: number, waitMs: number) =>
    (await receiver.receive({ max, waitMs, signal })).map(({ body }) => Buffer.from(body).toString());
  expect(await bodies(1, 5_000)).toEqual(["kept"]);
  await eventually(() => refusals >= 2);
  // Of the five seconds that both had, more than half are over.
  await wait(2_500);
  expect(await bodies(10, 1)).toEqual([]);
  await receiver.close();
});

test("TLS at a server without it, the other way round, and a certificate that nobody has signed, are told with what to do", async () => {
  const plain = await served(answering("AccessDenied"));
  const { key, cert } = ownCertificate();
  const encrypted = await served(createTlsServer({ key, cert }, (_, response) => void response.end()));
  for (const [url, text] of [
    [
      `https://127.0.0.1:${plain}`,
      /agree on no TLS \((EPROTO|ERR_SSL_\w+)\)\. Where it speaks no TLS, write http:\/\/\./,
    ],
    [`http://127.0.0.1:${encrypted}`, /speaks TLS, and its address begins with http:\/\/\. Write https:\/\/\.$/],
    [
      `https://127.0.0.1:${encrypted}`,
      /is not accepted \(DEPTH_ZERO_SELF_SIGNED_CERT\)\. Give its signer as PEM in tls\.ca/,
    ],
  ] as const) {
    const error = await refusalAt(url);
    expect(error).toMatchObject({ code: "PH_BROKER_TLS", message: expect.stringMatching(text) });
  }
});
