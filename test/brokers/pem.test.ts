/** Certificates and keys in options: what is none is refused where it is written, by every broker, and not repeated. */
import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import type { TlsOptions } from "../../src/brokers/tls.js";
import { webhook } from "../../src/brokers/webhooks/index.js";
import { ownCertificate } from "./webhooks/certificate.js";

const { cert, key } = ownCertificate(["partner.example"]);
const tls: Readonly<Record<string, (tls: TlsOptions) => unknown>> = {
  kafka: (tls) => kafka({ url: "kafkas://h", topic: "t", tls }),
  mqtt: (tls) => mqtt({ url: "mqtts://h", topic: "t", tls }),
  nats: (tls) => nats({ url: "tls://h", stream: "s", subject: "s", tls }),
  rabbitmq: (tls) => rabbitmq({ url: "amqps://h", queue: "q", tls }),
  redis: (tls) => redis({ url: "rediss://h", stream: "s", tls }),
  sqs: (tls) => sqs({ queue: "q", url: "https://h", region: "r", tls }),
};
const posting = (ca: string) => webhook({ url: "https://partner.example/", sign: "none", ca });

const secret = "c2VjcmV0";
const broken = `-----BEGIN CERTIFICATE-----\n${secret}\n-----END CERTIFICATE-----\n`;
const brokenKey = `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----\n`;
const blank = / is blank\. Give the text that begins with -----BEGIN /;
const none =
  / holds no [a-z ]+ in PEM\. Give the text that begins with -----BEGIN [A-Z ]+-----, not the name of its file\.$/;
const unread = / that cannot be read\. Copy the whole file, with its line ends\.$/;

function refusal(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Node takes a blank text for `ca`, trusts nobody by it, and each connection failed with another reason. */
const wrong: readonly (readonly [Partial<Record<"ca" | "cert" | "key", string>>, RegExp])[] = [
  [{ ca: " " }, blank],
  [{ cert: "\n" }, blank],
  [{ key: "\t" }, blank],
  [{ ca: "/etc/ssl/ca.pem" }, none],
  [{ ca: key }, none],
  [{ key: cert }, none],
  [{ cert: cert.replace("-----END CERTIFICATE-----", "") }, none],
  [{ ca: broken }, unread],
  [{ ca: `${cert}${broken}` }, /certificate 2 of 2 that cannot be read/],
  [{ ca: cert.replaceAll("\n", "\\n") }, unread],
  [{ key: brokenKey }, unread],
];
for (const [name, make] of Object.entries(tls)) {
  test(`${name} refuses a certificate or a key that is none, says what to do, and repeats nothing of it`, () => {
    for (const [options, what] of wrong) {
      const error = refusal(() => make(options));
      const [option] = Object.keys(options);
      expect(error, JSON.stringify(options)).toMatchObject({
        name: "ConfigurationError",
        code: "PH_OPTION_INVALID",
        message: expect.stringMatching(what),
      });
      expect(String(error)).toContain(`${name}.tls.${option} `);
      expect(String(error)).not.toContain(secret);
    }
    expect(refusal(() => make({ ca: `# The authority\n${cert}${cert}`, cert, key }))).toBeUndefined();
  });
}

test("a webhook refuses such a `ca` as well", () => {
  for (const [options, what] of wrong) {
    if (options.ca === undefined) continue;
    const error = refusal(() => posting(options.ca ?? ""));
    expect(error).toMatchObject({ code: "PH_OPTION_INVALID", message: expect.stringMatching(what) });
  }
  expect(refusal(() => posting(cert))).toBeUndefined();
});

test("keys of every usual form are taken, also one that a passphrase opens", () => {
  const make = (options: TlsOptions) => refusal(() => tls.kafka?.(options));
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const cipher = { cipher: "aes-256-cbc", passphrase: "open" };
  for (const given of [
    rsa.export({ format: "pem", type: "pkcs8" }),
    rsa.export({ format: "pem", type: "pkcs1" }),
    rsa.export({ format: "pem", type: "pkcs8", ...cipher }),
    rsa.export({ format: "pem", type: "pkcs1", ...cipher }),
    ec.export({ format: "pem", type: "sec1" }),
    `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${ec.export({ format: "pem", type: "sec1" })}`,
  ]) {
    expect(make({ cert, key: String(given), passphrase: "open" })).toBeUndefined();
  }
});
