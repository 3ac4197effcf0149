/** The broker of fixtures/wire.ts: keeps messages until they are acknowledged; each connection is given all that are not, from the first on. */
import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import type { Request, Wired } from "./fixtures/wire.js";
import type { Carried } from "./memory-broker.js";

export interface WireServer {
  readonly port: number;
  put(...messages: readonly Carried[]): void;
  /** Not acknowledged. */
  readonly left: number;
  /** How often each message went out. */
  readonly given: readonly number[];
  /** Connections so far. */
  readonly connections: number;
}

const pollMs = 10;

export async function wireServer(): Promise<WireServer> {
  const messages: Wired[] = [];
  const acknowledged = new Set<number>();
  const given: number[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server: Server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
    void serve(socket);
  });
  const serve = async (socket: Socket): Promise<void> => {
    let next = 0;
    const take = (most: number): Wired[] => {
      const found: Wired[] = [];
      for (; next < messages.length && found.length < most; next += 1) {
        const message = messages[next];
        if (message !== undefined && !acknowledged.has(next)) found.push(message);
      }
      return found;
    };
    try {
      for await (const line of createInterface({ input: socket })) {
        const request: Request = JSON.parse(line);
        if ("acknowledge" in request) {
          for (const at of request.acknowledge) acknowledged.add(at);
          socket.write("{}\n");
          continue;
        }
        const until = performance.now() + request.waitMs;
        let found = take(request.receive);
        while (found.length === 0 && performance.now() < until && !socket.destroyed) {
          await new Promise((resolve) => setTimeout(resolve, pollMs));
          found = take(request.receive);
        }
        for (const { at } of found) given[at] = (given[at] ?? 0) + 1;
        socket.write(`${JSON.stringify(found)}\n`);
      }
    } catch {
      socket.destroy();
    }
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("it has no port");
  return {
    port: address.port,
    put: (...more) => {
      for (const { headers, contentType, body } of more) {
        messages.push({ at: messages.length, headers, contentType, body: Buffer.from(body).toString("base64") });
      }
    },
    get left() {
      return messages.length - acknowledged.size;
    },
    given,
    get connections() {
      return connections;
    },
  };
}
