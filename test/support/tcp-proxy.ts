/**
 * A network between a client and a server of the tests that can go wrong: connections are cut, nothing arrives any more in one direction or in both
 * while they stay open, and everything is late.
 */
import { connect, createServer, type Socket } from "node:net";

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
  const swallows = (direction: Direction) => now === "black hole" || now === `black hole ${direction}`;

  const carry = (from: Socket, to: Socket, direction: Direction): void => {
    // What was swallowed must not be followed by what comes after it: a stream has no gaps, so such a connection is dead for good.
    let deaf = false;
    from.on("data", (chunk) => {
      deaf ||= swallows(direction);
      if (deaf) return;
      const delayMs = typeof now === "object" ? now.delayMs : 0;
      if (delayMs === 0) to.write(chunk);
      else setTimeout(() => to.destroyed || to.write(chunk), delayMs);
    });
    from.on("end", () => {
      if (!deaf) to.end();
    });
  };
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
    carry(client, upstream, "up");
    carry(upstream, client, "down");
  });
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, loopback, resolve));
  await listen(0);
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the loopback address has no port");
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
      url.port = String(address.port);
      return url.href;
    },
    weather: (next) => {
      now = next;
    },
    cut,
    refuse,
    accept: async () => {
      if (!server.listening) await listen(address.port);
    },
    get open() {
      return sockets.size / 2;
    },
    close: refuse,
  };
}
