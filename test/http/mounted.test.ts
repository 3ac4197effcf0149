/**
 * Goal: `listener` works where a framework has had the request before, and says so where it cannot.
 * Method: what Express, Nest, Fastify and their kind leave on a request of node:http, without them.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";
import { listener } from "posthorn/http";
import { expect, onTestFinished, test } from "vitest";

type Left = { -readonly [name in "url" | "originalUrl" | "body" | "rawBody"]?: unknown };

/** `before` is what a framework does; `told` are the errors. */
async function mounted(before: (incoming: IncomingMessage) => Promise<Left>) {
  const told: unknown[] = [];
  const listen = listener(async (request) => new Response(`${new URL(request.url).pathname} ${await request.text()}`), {
    onError: (error) => told.push(error),
  });
  const server = createServer((incoming, outgoing) => {
    void before(incoming).then((left) => listen(Object.assign(incoming, left), outgoing));
  }).listen(0, "127.0.0.1");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const ask = async (method: string) => {
    const body = method === "GET" ? null : '{"a": 1}';
    const answer = await fetch(`http://127.0.0.1:${address.port}/hooks/partner`, { method, body });
    return `${answer.status} ${await answer.text()}`;
  };
  return { ask, told };
}

// It was answered 400 in silence: nobody learnt that express.json() stood before it.
test("a body that was read before and not kept is answered 500, and told as a mistake of this side with what to do", async () => {
  const { ask, told } = await mounted(async (incoming) => ({ body: JSON.parse(String(await buffer(incoming))) }));
  expect(await ask("POST")).toBe("500 ");
  expect(told).toEqual([
    expect.objectContaining({
      code: "PH_OPTION_INVALID",
      message: expect.stringMatching(/read before.*express\.json\(\)/),
    }),
  ]);
});

test("a body that was read before is taken from where its bytes were kept, whatever was made of it", async () => {
  for (const keep of [(bytes: Buffer) => ({ body: { a: 1 }, rawBody: bytes }), (bytes: Buffer) => ({ body: bytes })]) {
    const { ask, told } = await mounted(async (incoming) => keep(await buffer(incoming)));
    expect(await ask("POST")).toBe('200 /hooks/partner {"a": 1}');
    expect(told).toEqual([]);
  }
});

// Below a prefix it was the rest of the path, and a webhookIntake() with the path that its sender posts to answered 404.
test("the path is the one that was asked for, also where a framework took a part of it off", async () => {
  const { ask } = await mounted(async ({ url }) => ({ url: "/partner", originalUrl: url }));
  expect(await ask("POST")).toBe('200 /hooks/partner {"a": 1}');
});

test("a request that has no body may have been read to its end", async () => {
  const { ask, told } = await mounted(async (incoming) => {
    await buffer(incoming);
    return {};
  });
  expect([await ask("GET"), told]).toEqual(["200 /hooks/partner ", []]);
});
