import { createHmac } from "node:crypto";
import { newWebhookKeyPair, newWebhookSecret, verifyWebhook, webhook, webhookIntake } from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { readKeys } from "../../../src/brokers/webhooks/keys.js";
import { sign, webhookId } from "../../../src/brokers/webhooks/signature.js";
import { message, open, receiving, secret, sendOne } from "./places.js";

const now = () => Math.floor(Date.now() / 1000);
const unverified = expect.objectContaining({ code: "PH_WEBHOOK_UNVERIFIED" });

function signedBy(keys: readonly string[], { id = "msg_1", at = now(), body = '{"a":1}' } = {}) {
  const signatures = keys.map((key) => new Oracle(key).sign(id, new Date(at * 1000), body));
  const headers = { "webhook-id": id, "webhook-timestamp": String(at), "webhook-signature": signatures.join(" ") };
  return { headers, body };
}

const verdict = (
  webhook: Parameters<typeof verifyWebhook>[0],
  options: Parameters<typeof verifyWebhook>[1],
): unknown => {
  try {
    return verifyWebhook(webhook, options).id;
  } catch (error) {
    return error;
  }
};

describe("what is sent", () => {
  test("verifies with the reference library, for each secret during a change of secrets", async () => {
    const { url, asked } = await receiving(() => 204);
    const old = newWebhookSecret();
    const sender = await open(url, { secrets: [old, secret] });
    expect(await sendOne(sender, message("msg_9"))).toEqual({ kind: "acknowledged" });
    const [one] = asked;
    if (one === undefined) throw new Error("nothing came");
    const { headers, body } = one;
    const plain = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    for (const key of [old, secret]) {
      expect(new Oracle(key).verify(body.toString(), plain)).toMatchObject({
        type: "OrderPlaced",
        id: "msg_9",
        data: { id: "msg_9" },
      });
    }
    expect(() => new Oracle(newWebhookSecret()).verify(body.toString(), plain)).toThrow();
    expect(verdict({ headers, body }, { secrets: [secret] })).toBe("msg_9");
    expect(Math.abs(Number(headers["webhook-timestamp"]) - now())).toBeLessThan(120);
  });

  test("verifies with the public half of an ed25519 pair, beside a shared secret", async () => {
    const { url, asked } = await receiving(() => 204);
    const pair = newWebhookKeyPair();
    await sendOne(await open(url, { secrets: [pair.secretKey, secret] }));
    const [one] = asked;
    if (one === undefined) throw new Error("nothing came");
    expect(String(one.headers["webhook-signature"])).toMatch(/^v1a,[A-Za-z0-9+/]{86}== v1,[A-Za-z0-9+/]{43}=$/);
    expect(verdict(one, { secrets: [pair.publicKey] })).toBe("1");
    expect(verdict(one, { secrets: [newWebhookKeyPair().publicKey] })).toEqual(unverified);
    expect(verdict({ ...one, body: `${one.body.toString()} ` }, { secrets: [pair.publicKey] })).toEqual(unverified);
  });

  test("has the id of the event as its webhook-id, the same at each attempt, and never one with a dot", async () => {
    const { url, asked } = await receiving(() => 500);
    const sender = await open(url);
    for (const id of ["0198c5d0-7c1a", "0198c5d0-7c1a", "a.b", "a.b", "a b", "ä"]) await sendOne(sender, message(id));
    const ids = asked.map(({ headers }) => headers["webhook-id"]);
    expect(ids.slice(0, 2)).toEqual(["0198c5d0-7c1a", "0198c5d0-7c1a"]);
    expect(ids[2]).toBe(ids[3]);
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
    expect(webhookId("a.b")).toBe(ids[2]);
  });

  test("carries no signature where that was said, and only there", async () => {
    const { url, asked } = await receiving(() => 204);
    const bare = webhook({ url, sign: "none", allowPrivate: ["127.0.0.1"] });
    const sender = await bare.openSender({
      name: "x",
      service: "shop",
      signal: new AbortController().signal,
      onTrouble: () => undefined,
    });
    await sender.send([message("1")], new AbortController().signal);
    await sender.close();
    expect(asked[0]?.headers).not.toHaveProperty("webhook-signature");
    expect(() => webhook({ url, allowPrivate: ["127.0.0.1"] })).toThrow(
      expect.objectContaining({ code: "PH_OPTION_MISSING" }),
    );
    expect(() => webhook({ url, sign: "none", secrets: [secret], allowPrivate: ["127.0.0.1"] })).toThrow(
      expect.objectContaining({ code: "PH_OPTION_INVALID" }),
    );
  });
});

describe("verifyWebhook", () => {
  test("accepts what the reference library signs: as text, as bytes, with headers of fetch and of node:http", () => {
    const { headers, body } = signedBy([secret]);
    expect(verdict({ headers, body }, { secrets: [secret] })).toBe("msg_1");
    expect(
      verdict({ headers: new Headers(headers), body: Buffer.from(body) }, { secrets: [newWebhookSecret(), secret] }),
    ).toBe("msg_1");
    const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
    expect(verdict({ headers: upper, body }, { secrets: [secret] })).toBe("msg_1");
  });

  test("accepts the example of the standard", () => {
    const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const body = '{"test": 2432232314}';
    const signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const headers = {
      "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "webhook-timestamp": "1614265330",
      "webhook-signature": signature,
    };
    // The vector is of 2021: it is right, and too old.
    expect(String(verdict({ headers, body }, { secrets: [key] }))).toContain("too old");
    const content = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    expect(
      `v1,${createHmac("sha256", Buffer.from(key.slice(6), "base64"))
        .update(content)
        .digest("base64")}`,
    ).toBe(signature);
    expect(new Oracle(key).sign(headers["webhook-id"], new Date(1614265330_000), body)).toBe(signature);
  });

  test("looks at no more public-key signatures than a sender has keys, since each costs time whoever sends it", () => {
    const [pair, other] = [newWebhookKeyPair(), newWebhookKeyPair()];
    const body = '{"a":1}';
    const by = (key: string) => sign(readKeys([key], "x", "signs"), "msg_1", Date.now(), Buffer.from(body));
    const [right, wrong] = [by(pair.secretKey), by(other.secretKey)];
    const behind = (count: number) => {
      const signature = `${`${wrong.signature} `.repeat(count)}${right.signature}`;
      const headers = { "webhook-id": right.id, "webhook-timestamp": right.timestamp, "webhook-signature": signature };
      return verdict({ headers, body }, { secrets: [pair.publicKey] });
    };
    expect(behind(9)).toBe("msg_1");
    expect(behind(10)).toEqual(unverified);
  });

  test("accepts one right signature whatever kinds stand before it", () => {
    const { headers, body } = signedBy([secret]);
    const signature = `v2,abc ${headers["webhook-signature"]}`;
    expect(verdict({ headers: { ...headers, "webhook-signature": signature }, body }, { secrets: [secret] })).toBe(
      "msg_1",
    );
  });

  test("accepts one right signature among wrong, unknown and broken ones, up to a number", () => {
    const { headers, body } = signedBy([secret]);
    const right = headers["webhook-signature"];
    const among = (signature: string) =>
      verdict({ headers: { ...headers, "webhook-signature": signature }, body }, { secrets: [secret] });
    expect(among(`v1,AAAA v2,xyz nonsense , v1a,${Buffer.alloc(64).toString("base64")} ${right}`)).toBe("msg_1");
    expect(among(`${"v1,AAAA ".repeat(40)}${right}`)).toEqual(unverified);
    for (const wrong of [
      "",
      "v1,",
      right.slice(0, -2),
      right.replace("v1,", "v1a,"),
      right.slice(3),
      right.replace(",", ""),
    ]) {
      expect([wrong, among(wrong)]).toEqual([wrong, unverified]);
    }
  });

  test("refuses a body, id or time that was changed, and what is too old or too far ahead", () => {
    const { headers, body } = signedBy([secret]);
    const with_ = (changed: object, options: object = {}) =>
      verdict({ headers: { ...headers, ...changed }, body }, { secrets: [secret], ...options });
    expect(verdict({ headers, body: `${body} ` }, { secrets: [secret] })).toEqual(unverified);
    expect(with_({ "webhook-id": "msg_2" })).toEqual(unverified);
    expect(with_({ "webhook-timestamp": String(Number(headers["webhook-timestamp"]) - 1) })).toEqual(unverified);
    for (const id of ["", "msg.1", "a b", "x".repeat(256)]) expect(with_({ "webhook-id": id })).toEqual(unverified);
    for (const at of ["", "x", "-5", "1e9", "99999999999999"])
      expect(with_({ "webhook-timestamp": at })).toEqual(unverified);
    const at = (seconds: number, toleranceMs?: number) =>
      verdict(signedBy([secret], { at: now() + seconds }), {
        secrets: [secret],
        ...(toleranceMs !== undefined && { toleranceMs }),
      });
    expect([at(-240), at(240)]).toEqual(["msg_1", "msg_1"]);
    expect([at(-302), at(302)]).toEqual([unverified, unverified]);
    expect([at(-302, 600_000), at(302, 600_000), at(-602, 600_000)]).toEqual(["msg_1", "msg_1", unverified]);
  });

  test("what is no list of keys is refused by what is wrong with it, and no key is in the message", () => {
    const short = `whsec_${Buffer.alloc(8, 1).toString("base64")}`;
    const long = `whsec_${Buffer.alloc(65, 1).toString("base64")}`;
    const pair = newWebhookKeyPair();
    const halves = `whsk_${Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32, 2)]).toString("base64")}`;
    const lists: [unknown, string][] = [
      [[], "a list of 0"],
      [secret, "got a string"],
      [[5], "begins with whsec_"],
      [[secret.slice(6)], "begins with whsec_"],
      [["whsec_!!!!"], "is not base64"],
      [["whsec_"], "is not base64"],
      [[short], "has 8 bytes"],
      [[long], "has 65 bytes"],
      [[secret, pair.secretKey], "[1] is the secret half"],
      [["whpk_AAAA"], "has 3 bytes"],
      [Array(11).fill(secret), "a list of 11"],
    ];
    for (const [secrets, text] of lists) {
      const error = verdict(signedBy([secret]), { secrets } as never);
      expect(error).toMatchObject({ code: "PH_OPTION_INVALID" });
      expect(String(error)).toContain(text);
      expect(String(error)).not.toContain(pair.secretKey.slice(5, 20));
      expect(String(error)).not.toContain(secret.slice(6, 14));
      expect(() => webhookIntake({ secrets } as never)).toThrow(text);
    }
    const out = (secrets: unknown) => () => webhook({ url: "https://partner.example", secrets } as never);
    expect(out([pair.publicKey])).toThrow("public half");
    expect(out([halves])).toThrow("do not belong together");
    expect(out([`whsk_${Buffer.alloc(31).toString("base64")}`])).toThrow("has 31 bytes");
    expect(
      out([`whsk_${Buffer.from(pair.secretKey.slice(5), "base64").subarray(0, 32).toString("base64")}`]),
    ).not.toThrow();
  });
});
