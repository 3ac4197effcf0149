/** A way to a server on which what it says to one of the connections stays behind, once a question of a certain kind has been asked on it. */
import { connect, createServer, type Socket } from "node:net";

export interface LateAnswers {
  readonly url: string;
  /** Resolves when an answer that `isLate` meant is held back. */
  readonly held: Promise<void>;
  /** From here on questions are looked at. */
  watch(): void;
  /** Lets what is held back through. */
  release(): void;
  close(): void;
}

export async function lateAnswers(target: string, isLate: (question: string) => boolean): Promise<LateAnswers> {
  const { hostname, port, href } = new URL(target);
  const sockets = new Set<Socket>();
  let watching = false;
  let late: { readonly client: Socket; readonly said: Buffer[] } | undefined;
  let tell = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    client.on("data", (question) => {
      if (watching && isLate(question.toString("latin1"))) {
        watching = false;
        late = { client, said: [] };
      }
      upstream.write(question);
    });
    upstream.on("data", (answer) => {
      if (late?.client !== client) return void client.write(answer);
      late.said.push(answer);
      tell();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const own = new URL(href);
  own.port = String(typeof address === "object" ? address?.port : "");
  return {
    url: own.href,
    held,
    watch: () => {
      watching = true;
    },
    release: () => {
      const { client, said = [] } = late ?? {};
      late = undefined;
      client?.write(Buffer.concat(said));
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
