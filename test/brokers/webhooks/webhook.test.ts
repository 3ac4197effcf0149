import type { Socket } from "node:net";
import { webhook } from "posthorn/webhooks";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Outgoing, Sender } from "../../../src/brokers/broker.js";
import { decode } from "../../../src/brokers/envelope.js";
import { limits } from "../../../src/core/limits.js";
import { awaited, hook, message, never, open, receiving, said, secret, sendOne, serve, serveTcp } from "./places.js";

describe("a message", () => {
  test("is posted in structured mode with everything in the body, and in binary mode with attributes as headers", async () => {
    const { url, asked } = await receiving(() => 200);
    const one = message("m-1", { key: "k", data: '{"name":"Žofie 😀"}', headers: { "X-Shop": "Žofie" } });
    const { event } = one;
    await sendOne(await open(url), one);
    await sendOne(await open(url, { mode: "binary" }), { ...one, event: { ...event, subject: "a b", type: "Ä" } });
    const decoded = asked.map(({ headers, body }) => {
      const plain = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
      return decode({ headers: plain, contentType: headers["content-type"], body }, { prefix: "ce-", percent: true });
    });
    const { headers: _theirs, ...attributes } = event;
    expect(decoded[0]).toMatchObject({ ok: true, event: attributes });
    expect(decoded[1]).toMatchObject({ ok: true, event: { ...attributes, subject: "a b", type: "Ä" } });
    expect(asked[0]?.headers).not.toHaveProperty("ce-id");
    expect(asked[1]?.headers).toMatchObject({
      "ce-type": "%C3%84",
      "content-type": "application/json",
      "user-agent": "posthorn",
    });
    expect(Buffer.from(String(asked[1]?.headers["x-shop"]), "latin1").toString()).toBe("Žofie");
  });

  test("arrives byte for byte, whatever its size, with letters of other alphabets in its body and its headers", async () => {
    const { url, asked } = await receiving(() => 200);
    const sender = await open(url, { mode: "binary" });
    const sent = [1, 32_765, 32_766, 32_767, 200_000].map((size) => `"${"ž".repeat(size)}"`);
    for (const data of sent) await sendOne(sender, message("m-1", { data, headers: { "x-shop": "Žofie ÿ" } }));
    expect(asked.map(({ body }) => body.toString() === sent.shift())).toEqual(Array(5).fill(true));
    for (const { headers, body } of asked) {
      expect(headers["content-length"]).toBe(String(body.length));
      expect(Buffer.from(String(headers["x-shop"]), "latin1").toString()).toBe("Žofie ÿ");
    }
  });

  test("whose own headers HTTP cannot carry is refused for good, with the reason, and not posted", async () => {
    const { url, asked } = await receiving(() => 200);
    const sender = await open(url);
    const names = ["Host", "content-length", "transfer-encoding", "ce-id", "Webhook-Id", "a b", "", "ä"];
    for (const name of names) {
      const sent = await sendOne(sender, message("1", { headers: { [name]: "x" } }));
      expect([name, sent.kind]).toEqual([name, "refused"]);
      expect(said(sent)).toContain("cannot travel over HTTP");
    }
    expect((await sendOne(sender, message("1", { headers: { "x-a": "b\r\nx-injected: 1" } }))).kind).toBe("refused");
    expect(asked).toEqual([]);
  });

  test("goes with the headers of the option and with the user of the url as authorization", async () => {
    const { url, asked } = await receiving(() => 204);
    const withUser = url.replace("://", "://ada:p%40ss@");
    await sendOne(await open(withUser));
    await sendOne(await open(`${url}/a/b?c=d`, { headers: { Authorization: "Bearer T0KEN", "x-tenant": "7" } }));
    expect(asked[0]?.headers.authorization).toBe(`Basic ${Buffer.from("ada:p@ss").toString("base64")}`);
    expect(asked[1]?.headers).toMatchObject({ authorization: "Bearer T0KEN", "x-tenant": "7" });
    expect(asked[1]?.request.url).toBe("/a/b?c=d");
    for (const headers of [{ host: "x" }, { "webhook-id": "x" }, { "ce-id": "x" }, { a: "b\nc" }, { a: 1 }, []]) {
      expect(() => hook(url, { headers } as never)).toThrow(expect.objectContaining({ code: "PH_OPTION_INVALID" }));
    }
  });
});

describe("a receiver", () => {
  const away = async (sender: Sender, text: string | RegExp, one: Outgoing = message("1")) => {
    const sent = await sendOne(sender, one);
    expect(sent.kind).toBe("unavailable");
    expect(said(sent)).toMatch(text);
  };
  const answering = (text: string, then: (socket: Socket) => void = () => undefined) =>
    serveTcp((socket) => {
      socket.once("data", () => {
        socket.write(text);
        then(socket);
      });
    });

  test("that refuses connections, closes them, or says something else than HTTP, is away", async () => {
    const { url, server } = await receiving(() => 200);
    const sender = await open(url);
    await new Promise((resolve) => server.close(resolve));
    await away(sender, "refused");
    await expect(open(url)).rejects.toThrow(/no way to .* refused/);
    await away(await open(await serveTcp((socket) => socket.destroy())), "closed before");
    await away(await open(await serveTcp((socket) => socket.once("data", () => socket.end()))), "closed before");
    await away(await open(await answering("SSH-2.0-OpenSSH_9.2\r\n")), "not HTTP (HPE");
    await away(
      await open(await answering("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")),
      "closed before",
    );
    await away(
      await open(await answering("HTTP/1.1 200 OK\r\ncontent-le", (socket) => socket.end())),
      /closed before|not HTTP/,
    );
  });

  test("that is silent after the connection, or sends its headers byte by byte, is given up after the time for an answer", async () => {
    await away(await open(await serveTcp(() => undefined), { timeoutMs: 200 }), "no answer within 200 ms");
    const drip = await answering("HTTP/1.1 200 OK\r\n", (socket) => {
      const timer = setInterval(() => socket.write("a: b\r\n"), 20);
      socket.on("close", () => clearInterval(timer));
    });
    await away(await open(drip, { timeoutMs: 200 }), "no answer within");
    const forever = await answering("", (socket) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 102 Processing\r\n\r\n"), 20);
      socket.on("close", () => clearInterval(timer));
    });
    await away(await open(forever, { timeoutMs: 200 }), "no answer within");
  });

  test("that answers with more headers than any answer needs is cut off", async () => {
    const bomb = await answering(
      `HTTP/1.1 200 OK\r\n${"x: ".padEnd(limits.webhookAnswerHeaderBytes * 2, "y")}\r\n\r\n`,
    );
    await away(await open(bomb), "headers of the answer are too large");
  });

  test.each([200, 500])(
    "whose answer %i has a body without end is not read to the end, and costs its connection",
    async (status) => {
      let written = 0;
      const closed = awaited();
      const { url } = await serve((request, response) => {
        request.resume();
        response.writeHead(status, { "content-length": String(2 ** 30) });
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 120))) written += 65_536;
        };
        response.on("drain", more);
        response.on("close", () => closed.end());
        more();
      });
      const sender = await open(url);
      // No time passes: what ends it is its size.
      vi.useFakeTimers({ toFake: ["setTimeout"] });
      onTestFinished(() => void vi.useRealTimers());
      const sent = await sendOne(sender);
      expect(sent.kind).toBe(status === 200 ? "acknowledged" : "failed");
      if (status === 500) expect(said(sent).length).toBeLessThan(400);
      await closed.happened;
      expect(written).toBeLessThan(2 ** 28);
    },
  );

  test("whose answer drips is not waited for: the status is the answer", async () => {
    const closed = awaited();
    const drip = await answering("HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n", (socket) => {
      const timer = setInterval(() => socket.write("1\r\nx\r\n"), 20);
      socket.on("close", () => {
        clearInterval(timer);
        closed.end();
      });
    });
    const sent = await sendOne(await open(drip));
    expect(said(sent)).toMatch(/answered 400: x+$/);
    await closed.happened;
    const cut = await answering("HTTP/1.1 400 Bad\r\ncontent-length: 100\r\n\r\nbroken off", (socket) => socket.end());
    expect(said(await sendOne(await open(cut)))).toContain("answered 400: broken off");
  });

  test("gets many webhooks over few connections, and one that closes an idle connection in the wrong moment gets its webhook on a new one", async () => {
    const sockets = new Set<Socket>();
    const { url, asked } = await receiving(({ request }) => {
      sockets.add(request.socket);
      return 204;
    });
    const sender = await open(url, { connections: 2 });
    const messages = Array.from({ length: 50 }, (_, i) => message(String(i)));
    const sent = await sender.send(messages, never);
    expect(sent.every(({ kind }) => kind === "acknowledged")).toBe(true);
    expect([asked.length, sockets.size <= 2]).toEqual([50, true]);

    let connections = 0;
    const rude = await serveTcp((socket) => {
      connections += 1;
      let requests = 0;
      socket.on("data", () => {
        requests += 1;
        // The second request of a connection finds it closed.
        if (requests > 1) socket.destroy();
        else socket.write("HTTP/1.1 204 No Content\r\n\r\n");
      });
    });
    const again = await open(rude, { connections: 1 });
    for (const id of ["1", "2", "3"]) expect(await sendOne(again, message(id))).toEqual({ kind: "acknowledged" });
    expect(connections).toBeGreaterThanOrEqual(2);
    // Without connections that are kept nothing is posted twice, whatever becomes of it.
    let posted = 0;
    const gone = await serveTcp((socket) => {
      socket.on("data", () => {
        posted += 1;
        socket.destroy();
      });
    });
    const once = await open(gone, { keepAlive: false });
    for (const id of ["1", "2"]) expect((await sendOne(once, message(id))).kind).toBe("unavailable");
    expect(posted).toBe(2);
  });
});

describe("a call of send", () => {
  /** Requests are answered when the test says so. */
  async function held() {
    const waiting: { readonly id: string; readonly answer: (status: number) => void }[] = [];
    let most = 0;
    let arrived = awaited();
    const { url } = await receiving(
      ({ headers }) =>
        new Promise((resolve) => {
          const one = {
            id: String(headers["webhook-id"]),
            answer: (status: number) => {
              waiting.splice(waiting.indexOf(one), 1);
              resolve(status);
            },
          };
          waiting.push(one);
          most = Math.max(most, waiting.length);
          arrived.end();
        }),
    );
    const next = async (count: number) => {
      while (waiting.length < count) {
        arrived = awaited();
        await arrived.happened;
      }
      return waiting.map(({ id }) => id);
    };
    return { url, waiting, next, most: () => most };
  }

  test("posts at most as many at once as there are connections, the first ones first", async () => {
    const { url, waiting, next, most } = await held();
    const sender = await open(url, { connections: 3 });
    const sent = sender.send(
      Array.from({ length: 9 }, (_, i) => message(`m${i}`)),
      never,
    );
    const seen: string[] = [];
    while (seen.length < 9) {
      seen.push(...(await next(3)));
      for (const one of [...waiting]) one.answer(204);
    }
    expect((await sent).map(({ kind }) => kind)).toEqual(Array(9).fill("acknowledged"));
    expect(seen.map((id) => (Number(id.slice(1)) / 3) | 0)).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2]);
    expect(most()).toBe(3);
  });

  test("posts messages of one key one after the other, also over two calls, and others meanwhile", async () => {
    const { url, waiting, next } = await held();
    const sender = await open(url);
    const first = sender.send(
      [message("a1", { key: "a" }), message("a2", { key: "a" }), message("b1", { key: "b" })],
      never,
    );
    const second = sender.send([message("a3", { key: "a" })], never);
    const order: string[] = [];
    expect(await next(2)).toEqual(["a1", "b1"]);
    for (const wanted of ["a1", "a2", "a3"]) {
      while (!waiting.some(({ id }) => id === wanted)) await next(2);
      expect(waiting.filter(({ id }) => id.startsWith("a"))).toHaveLength(1);
      order.push(wanted);
      waiting.find(({ id }) => id === wanted)?.answer(204);
    }
    waiting.find(({ id }) => id === "b1")?.answer(204);
    expect([...(await first), ...(await second)].map(({ kind }) => kind)).toEqual(Array(4).fill("acknowledged"));
    expect(order).toEqual(["a1", "a2", "a3"]);
  });

  test("goes on after a message that failed or was refused: whether what has its key may follow is decided by who hands it over", async () => {
    let status = 500;
    const { url, asked } = await receiving(() => status);
    const sender = await open(url);
    const batch = [message("a1", { key: "a" }), message("a2", { key: "a" })];
    for (const [code, kind] of [
      [500, "failed"],
      [413, "refused"],
      [204, "acknowledged"],
    ] as const) {
      status = code;
      expect((await sender.send(batch, never)).map((sent) => sent.kind)).toEqual([kind, kind]);
    }
    expect(asked.map(({ headers }) => headers["webhook-id"])).toEqual(["a1", "a2", "a1", "a2", "a1", "a2"]);
  });

  test("tries no more once the receiver was found away, and the next call tries again", async () => {
    let away = true;
    const { url, asked } = await receiving(() => (away ? 503 : 204));
    const sender = await open(url, { connections: 1 });
    const messages = Array.from({ length: 20 }, (_, i) => message(String(i)));
    expect((await sender.send(messages, never)).map(({ kind }) => kind)).toEqual(Array(20).fill("unavailable"));
    // One may be the message's own fault; so many in a row are not.
    expect(asked).toHaveLength(3);
    away = false;
    expect((await sender.send(messages, never)).every(({ kind }) => kind === "acknowledged")).toBe(true);
  });

  test("ends when its signal fires or its sender is closed: what has no answer is unavailable, and what was not begun is not posted", async () => {
    const { url, next, waiting } = await held();
    const signal = new AbortController();
    const sender = await open(url, { connections: 1 });
    const messages = [message("1", { key: "a" }), message("2", { key: "a" }), message("3")];
    const given = sender.send(messages, signal.signal);
    await next(1);
    signal.abort();
    expect((await given).map(({ kind }) => kind)).toEqual(Array(3).fill("unavailable"));
    expect((await sender.send(messages, signal.signal)).map(({ kind }) => kind)).toEqual(Array(3).fill("unavailable"));
    const closing = sender.send([message("4")], never);
    while (!(await next(1)).includes("4")) waiting.find(({ id }) => id !== "4")?.answer(204);
    await sender.close();
    expect((await closing)[0]?.kind).toBe("unavailable");
  });
});

test("no proxy is taken from the environment, and no certificate check is switched off by it", async () => {
  const proxy = await receiving(() => 200);
  const { url, asked } = await receiving(() => 200);
  const names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "NODE_USE_ENV_PROXY"];
  const before = names.map((name) => process.env[name]);
  try {
    for (const name of names) process.env[name] = name === "NODE_USE_ENV_PROXY" ? "1" : proxy.url;
    await sendOne(await open(url));
  } finally {
    for (const [i, name] of names.entries()) {
      if (before[i] === undefined) delete process.env[name];
      else process.env[name] = before[i];
    }
  }
  expect([proxy.asked.length, asked.length]).toEqual([0, 1]);
});

test("a webhook only sends, tells what it can, and refuses options that it does not know", async () => {
  const { kind, where, features, openReceiver } = webhook({
    url: "https://partner.example/T0KEN",
    secrets: [secret],
    mode: "binary",
  });
  expect({ kind, where, mode: features.mode }).toEqual({
    kind: "webhooks",
    where: "https://partner.example/…#2bb845",
    mode: "binary",
  });
  await expect(
    openReceiver({ name: "x", service: "shop", signal: never, onTrouble: () => undefined }),
  ).rejects.toMatchObject({
    code: "PH_OPTION_INVALID",
  });
  const bad: object[] = [
    { proxy: "x" },
    { connections: 0 },
    { timeoutMs: 99 },
    { connectTimeoutMs: 20_001 },
    { connectTimeoutMs: 600, timeoutMs: 500 },
    { mode: "batch" },
    { whenGone: "ignore" },
    { lookup: 1 },
    { allowPrivate: "x" },
  ];
  for (const options of bad) {
    expect(() => hook("https://partner.example", options)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^PH_OPTION_/) }),
    );
  }
});
