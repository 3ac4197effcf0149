/** What the answer of a receiver means for a message. */
import { describe, expect, test } from "vitest";
import { hook, message, never, open, receiving, said, secret, senderOf, sendOne } from "./places.js";

const day = 86_400_000;

describe("an answer", () => {
  test.each([200, 201, 202, 204, 299])("of %i acknowledges", async (status) => {
    expect(await sendOne(await open((await receiving(() => status)).url))).toEqual({ kind: "acknowledged" });
  });

  test.each([300, 301, 302, 303, 307, 308])(
    "of %i is this message's failure, and the redirect is not followed",
    async (status) => {
      const there = await receiving(() => 200);
      const here = await receiving(() => ({ status, headers: { location: `${there.url}/T0KEN` } }));
      const sent = await sendOne(await open(here.url));
      expect(sent.kind).toBe("failed");
      expect(said(sent)).toContain(`answered ${status}`);
      expect(said(sent)).not.toContain("T0KEN");
      expect([here.asked.length, there.asked.length]).toEqual([1, 0]);
    },
  );

  test.each([
    400, 401, 403, 404, 405, 408, 409, 411, 414, 415, 418, 421, 422, 425, 451, 499, 500, 501, 505, 508, 600, 999,
  ])("of %i is this message's failure", async (status) => {
    const { url } = await receiving(() => ({ status, text: "what  is\n\u001b[31mwrong" }));
    const sent = await sendOne(await open(url));
    expect(sent.kind).toBe("failed");
    expect(said(sent)).toBe(`Error: ${url} answered ${status}: what is [31mwrong`);
  });

  // A 431 was tried again with the same headers, for as long as there were attempts, and held up its key meanwhile.
  test.each([
    [413, "too large for it"],
    [431, "headers too large for it"],
  ])(
    "of %i refuses for good: the message is too large for the receiver, unless it says when it will not be",
    async (status, why) => {
      let headers = {};
      const { url } = await receiving(() => ({ status, headers }));
      const sender = await open(url);
      expect(await sendOne(sender)).toEqual({ kind: "refused", reason: `${url} answered ${status} (${why}).` });
      headers = { "retry-after": "3" };
      expect(await sendOne(sender)).toMatchObject({ kind: "failed", retryAfterMs: 3_000 });
    },
  );

  // What Cloudflare and others say of a server that is down was taken for a failure of the message: minutes of it made dead letters.
  test.each([507, 509, 511, 520, 521, 522, 523, 524, 525, 526, 530, 598, 599])(
    "of %i is a gateway's word for a receiver that is away, and may be about this message alone",
    async (status) => {
      expect(await sendOne(await open((await receiving(() => status)).url))).toMatchObject({
        kind: "unavailable",
        alone: true,
      });
    },
  );

  test.each([429, 502, 503, 504])("of %i means that the receiver is away, for as long as it says", async (status) => {
    let after: string | undefined = "7";
    const { url, asked } = await receiving(() => ({
      status,
      ...(after !== undefined && { headers: { "retry-after": after } }),
    }));
    expect(await sendOne(await open(url))).toMatchObject({ kind: "unavailable", retryAfterMs: 7_000 });
    after = "99999999999";
    expect(await sendOne(await open(url))).toMatchObject({ retryAfterMs: day });
    after = new Date(Date.now() + 60_000).toUTCString();
    const dated = await sendOne(await open(url));
    expect(dated.kind === "unavailable" && dated.retryAfterMs).toBeGreaterThan(50_000);
    expect(asked).toHaveLength(3);
    for (const none of ["soon", "-1", undefined]) {
      after = none;
      expect(await sendOne(await open(url))).not.toHaveProperty("retryAfterMs");
    }
  });

  // It counted as a pause that is asked of all, so that a message that its receiver falls over was never to blame for it.
  test("with a Retry-After of nothing, or of a time that is over, asks for no pause", async () => {
    let after = "0";
    const { url, asked } = await receiving(() => ({ status: 503, headers: { "retry-after": after } }));
    const sender = await open(url);
    for (after of ["0", "Sun, 06 Nov 1994 08:49:37 GMT"]) {
      const sent = await sendOne(sender);
      expect(sent).toMatchObject({ kind: "unavailable", alone: true });
      expect(sent).not.toHaveProperty("retryAfterMs");
    }
    expect(asked).toHaveLength(2);
  });

  test("with Retry-After and a failure of this message carries it", async () => {
    const { url, asked } = await receiving(() => ({ status: 409, headers: { "retry-after": "2" } }));
    const sender = await open(url);
    expect(await sendOne(sender)).toMatchObject({ kind: "failed", retryAfterMs: 2_000 });
    await sendOne(sender);
    expect(asked).toHaveLength(2);
  });

  test("of 410 disables the endpoint: nothing more is posted, each message waits, and the reason says so", async () => {
    const { url, asked } = await receiving(() => 410);
    const broker = hook(url);
    const first = await (await senderOf(broker)).send([message("1"), message("2")], never);
    const later = await sendOne(await senderOf(broker), message("3"));
    for (const sent of [first[0], later]) {
      expect(sent).toMatchObject({ kind: "unavailable" });
      expect(sent && said(sent)).toMatch(/410 Gone.*The messages wait/);
    }
    // Two were on their way at once.
    expect(asked.length).toBeLessThanOrEqual(2);
    const before = asked.length;
    await sendOne(await senderOf(broker), message("4"));
    expect(asked).toHaveLength(before);
  });

  test("of 410 refuses each message where that was chosen, so that they become dead letters and hold nothing up", async () => {
    const { url, asked } = await receiving(() => 410);
    const sender = await open(url, { whenGone: "refuse" });
    for (const id of ["1", "2"]) {
      expect(await sendOne(sender, message(id))).toMatchObject({
        kind: "refused",
        reason: expect.stringContaining("410 Gone"),
      });
    }
    expect(asked).toHaveLength(1);
  });

  test("that repeats what is secret does not bring it into the reason", async () => {
    const path = "/hooks/T0KEN42/in?key=abc123def";
    const { url } = await receiving(({ headers, request }) => ({
      status: 500,
      text: `no ${secret} ${Buffer.from(secret.slice(6), "base64").toString("hex")} ${request.url} ${headers.authorization} ${headers["x-key"]} hunter2hunter2 ${Buffer.from("ada:hunter2hunter2").toString("base64")}`,
    }));
    const sender = await open(`${url.replace("://", "://ada:hunter2hunter2@")}${path}`, {
      headers: { "x-key": "s3cret-value" },
    });
    const reason = said(await sendOne(sender));
    expect(reason).toContain("answered 500: no");
    expect(reason).not.toMatch(/T0KEN42|abc123|hunter2|s3cret|YWRhOmh1|BwcHBw|070707/);
  });
});
