import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { type ListenerOptions, listener } from "posthorn/http";
import { expect, onTestFinished, test, vi } from "vitest";
import { tellSeldom } from "../../src/http/failures.js";

async function serve(handler: (request: Request) => Promise<Response>, options?: ListenerOptions): Promise<number> {
  const server = createServer(listener(handler, options)).listen(0, "127.0.0.1");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

test("a request arrives with its method, path, headers and body, and its answer goes back as it is", async () => {
  const port = await serve(async (request) => {
    const { pathname, search } = new URL(request.url);
    const seen = [request.method, pathname, search, request.headers.get("x-a"), await request.text()].join(" ");
    return new Response(seen, { status: 201, headers: { "x-b": "c" } });
  });
  const answer = await fetch(`http://127.0.0.1:${port}/a//b?c=d`, {
    method: "PUT",
    headers: { "x-a": "y" },
    body: "ä",
  });
  expect([answer.status, answer.headers.get("x-b"), await answer.text()]).toEqual([201, "c", "PUT /a//b ?c=d y ä"]);
  const got = await fetch(`http://127.0.0.1:${port}//other.example/hooks`);
  expect(await got.text()).toBe("GET //other.example/hooks   ");
  const head = await fetch(`http://127.0.0.1:${port}/`, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([201, ""]);
});

test("what cannot be a request is answered 400 and an error of the handler 500, both without a word about it", async () => {
  const told: unknown[] = [];
  const failure = new Error("secret");
  const port = await serve(() => Promise.reject(failure), { onError: (error) => told.push(error) });
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  expect([answer.status, await answer.text()]).toEqual([500, ""]);
  expect(told).toEqual([failure]);
  const socket = connect(port, "127.0.0.1");
  socket.end("TRACE / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
});

test("an error of the handler is told to the console where nobody else is, and a flood of them once a minute with their number", async () => {
  const warned = vi.spyOn(console, "error").mockImplementation(() => undefined);
  onTestFinished(() => warned.mockRestore());
  const failure = new Error("the handler is wrong");
  const port = await serve(() => Promise.reject(failure));
  for (let i = 0; i < 3; i += 1) expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(500);
  expect(warned.mock.calls).toEqual([
    [expect.stringContaining("a request was answered 500"), expect.stringContaining(failure.message)],
  ]);

  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const told: string[] = [];
  const tell = tellSeldom({ error: (message) => told.push(message) });
  for (let i = 0; i < 1_500; i += 1) {
    tell(failure);
    vi.advanceTimersByTime(50);
  }
  expect(told).toEqual([expect.stringMatching(/^a request was/), expect.stringMatching(/^1,200 requests were/)]);
});

test("listener refuses options that it does not know", () => {
  const handler = async () => new Response();
  expect(() => listener(handler, { onEror: () => undefined } as object)).toThrow(
    /unknown option "onEror"\. Did you mean "onError"/,
  );
  expect(() => listener(handler, { onError: 5 } as object)).toThrow(/listener\(\)\.onError must be a function/);
});

test("an answer before the end of the body is read by a client that still writes, and its connection ends; others are kept", async () => {
  const port = await serve(async (request) => {
    if (request.headers.has("content-length")) await request.text();
    return new Response("enough", { status: 413 });
  });
  const agent = new Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const post = (headers: Record<string, string>) =>
    request({ port, host: "127.0.0.1", method: "POST", agent, headers });
  const writing = post({ "transfer-encoding": "chunked" });
  writing.on("error", () => undefined);
  const timer = setInterval(() => writing.write(Buffer.alloc(65_536)), 1);
  const [early]: [IncomingMessage] = (await once(writing, "response")) as [IncomingMessage];
  expect([early.statusCode, early.headers.connection, await text(early)]).toEqual([413, "close", "enough"]);
  if (!writing.destroyed) await once(writing, "close");
  clearInterval(timer);
  for (const reused of [false, true]) {
    const whole = post({ "content-length": "2" });
    whole.end("xx");
    const [answer]: [IncomingMessage] = (await once(whole, "response")) as [IncomingMessage];
    expect([await text(answer), answer.headers.connection, whole.reusedSocket]).toEqual([
      "enough",
      "keep-alive",
      reused,
    ]);
  }
});
