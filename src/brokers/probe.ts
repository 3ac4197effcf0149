/** Asks a server whether it speaks TLS, or speaks without it, or speaks something else. Nothing that is secret is sent, and nothing is done there. Never rejects. */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, TLSSocket } from "node:tls";
import { tlsTroubleOf } from "../core/tls-codes.js";
import { servernameOf } from "./tls.js";

export interface Server {
  readonly host: string;
  readonly port: number;
}

/** The first words of a protocol without TLS. */
export interface Plain {
  /** Empty where the server begins. */
  readonly says: Uint8Array;
  /** Whether what has come so far is the answer of a server that speaks no TLS; undefined: more is needed. */
  readonly isAnswer: (got: Buffer) => boolean | undefined;
}

const probeMs = 2_000;
/** An answer is told by its beginning; NATS begins with what may be a long line. */
const mostBytes = 65_536;

export function speaksTls({ host, port }: Server, signal: AbortSignal): Promise<boolean> {
  const socket = encrypted({ host, port });
  return answerOf(socket, signal, (end) => {
    socket.once("secureConnect", () => end(true));
    // Only a server that speaks TLS has a certificate to find fault with.
    socket.on("error", ({ code = "" }: NodeJS.ErrnoException) => {
      const trouble = tlsTroubleOf(code);
      end(trouble !== undefined && trouble !== "agreement");
    });
  });
}

export function speaksPlain({ host, port }: Server, plain: Plain, signal: AbortSignal): Promise<boolean> {
  return speaks(connect({ host, port }), plain, signal);
}

function encrypted({ host, port }: Server, tls: ConnectionOptions = {}): TLSSocket {
  const servername = servernameOf(host);
  return connectTls({ host, port, ...(servername !== undefined && { servername }), ...tls });
}

function speaks(socket: Socket, { says, isAnswer }: Plain, signal: AbortSignal): Promise<boolean> {
  return answerOf(socket, signal, (end) => {
    socket.once(socket instanceof TLSSocket ? "secureConnect" : "connect", () => socket.write(says));
    socket.on("error", () => end(false));
    let got = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      got = Buffer.concat([got, chunk]);
      const answer = isAnswer(got) ?? (got.length < mostBytes ? undefined : false);
      if (answer !== undefined) end(answer);
    });
  });
}

/** What a server that has been asked for a protocol cannot be mistaken about. */
export interface Hello {
  readonly says: Uint8Array;
  /** Whether what has come so far is of that protocol, whatever it says; undefined: more is needed. */
  readonly isOne: (got: Buffer) => boolean | undefined;
}

/** Whether it answers in what is certainly another protocol, with TLS where its options are given. Silence is none, nor is a connection that is closed, nor an alert of TLS. */
export function speaksElse(
  server: Server,
  { says, isOne }: Hello,
  signal: AbortSignal,
  tls?: ConnectionOptions,
): Promise<boolean> {
  const isAnswer = (got: Buffer) => {
    const one = isOne(got);
    return one === undefined ? undefined : !one && !isAlert(got);
  };
  const { host, port } = server;
  return speaks(tls === undefined ? connect({ host, port }) : encrypted(server, tls), { says, isAnswer }, signal);
}

/** Begins with the number of an alert's record, and the version. */
function isAlert(got: Buffer): boolean {
  return got[0] === 0x15 && got[1] === 3;
}

function answerOf(
  socket: Socket,
  signal: AbortSignal,
  listen: (end: (answer: boolean) => void) => void,
): Promise<boolean> {
  return new Promise((resolve) => {
    const late = setTimeout(() => end(false), probeMs);
    const abort = () => end(false);
    const end = (answer: boolean) => {
      clearTimeout(late);
      signal.removeEventListener("abort", abort);
      socket.destroy();
      resolve(answer);
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.once("close", () => end(false));
    listen(end);
  });
}
