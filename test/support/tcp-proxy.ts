/**
 * A network between a client and a server of the tests that can go wrong: connections are cut, nothing arrives any more in one direction or in both
 * while they stay open, and everything is late.
 */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "./free-port.js";

const loopback = "127.0.0.1";

/** What becomes of what is sent. `up` is from the client to the server. */
export type Weather = "fair" | "black hole" | "black hole up" | "black hole down" | { readonly delayMs: number };

export interface TcpProxy {
  /** The same database or broker through it. */
  through(url: string): string;
  /** Holds for connections that are open and for those to come: a new one in a black hole is accepted, and hears nothing. */
  weather(now: Weather): void;
  /** Cuts all connections, without a goodbye. */
  cut(): void;
  /** Cuts all, and refuses new ones until `accept`. */
  refuse(): Promise<void>;
  accept(): Promise<void>;
  /** Connections that are open. */
  readonly open: number;
  close(): Promise<void>;
}

type Direction = "up" | "down";

export async function openTcpProxy(target: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let now: Weather = "fair";
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: hostname, port: Number(port || 5432), allowHalfOpen: true });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    carry(client, upstream, "up", () => now);
    carry(upstream, client, "down", () => now);
  });
  const own = await freePort();
  const listen = () => listening(server, own);
  await listen();
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const refuse = () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    cut();
    return closed;
  };
  return {
    through: (given) => {
      const url = new URL(given);
      url.hostname = loopback;
      url.port = String(own);
      return url.href;
    },
    weather: (next) => {
      now = next;
    },
    cut,
    refuse,
    accept: async () => {
      if (!server.listening) await listen();
    },
    get open() {
      return sockets.size / 2;
    },
    close: refuse,
  };
}

function carry(from: Socket, to: Socket, direction: Direction, weather: () => Weather): void {
  const swallows = () => weather() === "black hole" || weather() === `black hole ${direction}`;
  // What was swallowed must not be followed by what comes after it: a stream has no gaps, so such a connection is dead for good.
  let deaf = false;
  const late: (() => unknown)[] = [];
  // What is late is not overtaken, neither by what is sent when the weather is fair again nor by the end.
  const pass = (act: () => unknown): void => {
    const now = weather();
    const delayMs = typeof now === "object" ? now.delayMs : 0;
    if (delayMs === 0 && late.length === 0) {
      act();
    } else {
      late.push(act);
      setTimeout(() => late.shift()?.(), delayMs);
    }
  };
  from.on("data", (chunk) => {
    deaf ||= swallows();
    if (deaf) return;
    pass(() => {
      if (!to.destroyed) to.write(chunk);
    });
  });
  from.on("end", () => {
    if (!deaf) pass(() => to.end());
  });
}

async function listening(server: Server, port: number): Promise<void> {
  server.listen(port, loopback);
  await once(server, "listening");
}
