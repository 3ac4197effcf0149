/**
 * A proxy before a PostgreSQL server that counts the statements that end: everything that a client sends, in whatever protocol, the
 * library's own BEGIN and COMMIT included.
 *
 * It reads what the server says: CommandComplete, EmptyQueryResponse or ErrorResponse, one for each statement. What the client says
 * would not do, because one message may hold several statements.
 */
import { connect, createServer, type Socket } from "node:net";

export interface CountingProxy {
  /** The same database, through the proxy. */
  readonly url: string;
  /** Statements so far. */
  readonly statements: () => number;
  close(): Promise<void>;
}

const endsOfStatement: ReadonlySet<string> = new Set(["C", "I", "E"]);

/** Without encryption: a message is a byte for its type, four bytes for its length (their own included), and the rest. */
export class MessageReader {
  readonly #onType: (type: string) => void;
  #head: Buffer = Buffer.alloc(0);
  #skip = 0;

  constructor(onType: (type: string) => void) {
    this.#onType = onType;
  }

  read(chunk: Buffer): void {
    let rest = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
    this.#head = Buffer.alloc(0);
    for (;;) {
      const skipped = Math.min(this.#skip, rest.length);
      this.#skip -= skipped;
      rest = rest.subarray(skipped);
      if (rest.length < 5) break;
      this.#onType(rest.toString("latin1", 0, 1));
      this.#skip = rest.readUInt32BE(1) + 1;
    }
    this.#head = rest;
  }
}

export async function openCountingProxy(url: string): Promise<CountingProxy> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let statements = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port || 5432), target.hostname);
    const reader = new MessageReader((type) => {
      if (endsOfStatement.has(type)) statements += 1;
    });
    upstream.on("data", (chunk) => reader.read(chunk));
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
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the loopback address has no port");
  const through = new URL(url);
  through.hostname = "127.0.0.1";
  through.port = String(address.port);
  return {
    url: through.href,
    statements: () => statements,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
