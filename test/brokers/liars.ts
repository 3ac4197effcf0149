/** Servers on this machine that tell whoever connects what they got from it, as text of an error in their own protocol, in every form they can think of. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { onTestFinished } from "vitest";

const hex = (bytes: Buffer): string => bytes.toString("hex");
const printable = (bytes: Buffer): string => bytes.toString("utf8").replace(/[\p{C}]/gu, " ");

/** One letter of three as it is, one in percent, one in percent twice; and other ways to write a text. */
const mixed = (text: string): string =>
  [...text]
    .map((char, i) => {
      const percent = [...Buffer.from(char)].map((byte) => `%${hex(Buffer.from([byte])).toUpperCase()}`).join("");
      return i % 3 === 0 ? char : i % 3 === 1 ? percent : percent.replaceAll("%", "%25").toLowerCase();
    })
    .join("");
const html = (text: string): string => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

/** What was got, in every form: short, since some protocols take no long texts. */
export function echoes(got: Buffer): string[] {
  const text = printable(got);
  return [
    text,
    encodeURIComponent(text),
    mixed(text),
    JSON.stringify(JSON.stringify(text)),
    html(text),
    got.toString("base64"),
    Buffer.from(text).toString("base64url"),
    hex(got),
    ...got
      .toString("utf8")
      .split(/[\r\n\0]+/)
      .map((word) => Buffer.from(`x${word}`).toString("base64")),
  ];
}

async function listen(server: Server, sockets: ReadonlySet<Socket>): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** `answer` is given all that came on a connection so far, and how often it was asked. */
async function lying(
  answer: (got: Buffer, socket: Socket, count: number) => void,
  greet?: (socket: Socket) => void,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    greet?.(socket);
    let [got, count] = [Buffer.alloc(0), 0];
    socket.on("data", (chunk) => {
      got = Buffer.concat([got, chunk]);
      count += 1;
      answer(got, socket, count);
    });
  });
  return listen(server, sockets);
}

export const liars = {
  redis: () =>
    lying((got, socket) => {
      socket.write(
        `-ERR I got ${echoes(got)
          .join(" ")
          .replace(/[\r\n]+/g, " ")}\r\n`.repeat(4),
      );
    }),
  nats: () =>
    lying(
      (got, socket) => {
        if (!got.includes("CONNECT")) return;
        socket.write(
          `-ERR 'Authorization Violation, I got ${echoes(got)
            .join(" ")
            .replace(/[\r\n']+/g, " ")}'\r\n`,
        );
      },
      (socket) =>
        void socket.write(
          'INFO {"server_id":"x","version":"2.11.0","headers":true,"max_payload":1000,"auth_required":true}\r\n',
        ),
    ),
  mqtt: () =>
    lying((got, socket) => {
      const reason = Buffer.from(echoes(got).join(" ")).subarray(0, 60_000);
      const properties = Buffer.concat([Buffer.from([0x1f, reason.length >> 8, reason.length & 0xff]), reason]);
      const rest = Buffer.concat([Buffer.from([0, 0x87]), varint(properties.length), properties]);
      socket.end(Buffer.concat([Buffer.from([0x20]), varint(rest.length), rest]));
    }),
  /** It begins, and ends the connection once it has the answer to its challenge. Each form is told by a server of its own. */
  rabbitmq: (form: number) =>
    lying((got, socket, count) => {
      if (count === 1) socket.write(amqpStart());
      else {
        const said = Buffer.from(`I got ${echoes(plainOf(got))[form] ?? ""}`).subarray(0, 250);
        const payload = Buffer.concat([
          short(10),
          short(50),
          short(403),
          Buffer.from([said.length]),
          said,
          short(0),
          short(0),
        ]);
        socket.write(amqpFrame(payload));
      }
    }),
  /** Takes every mechanism, and then tells what it was given by it. */
  kafka: () =>
    lying((got, socket) => {
      let rest = got;
      const answers: Buffer[] = [];
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
        const request = rest.subarray(4, 4 + rest.readUInt32BE(0));
        rest = rest.subarray(4 + request.length);
        answers.push(kafkaAnswer(request));
      }
      const told = answered.get(socket) ?? 0;
      answered.set(socket, answers.length);
      for (const one of answers.slice(told)) socket.write(Buffer.concat([long(one.length), one]));
    }),
  postgres: () =>
    lying((got, socket, count) => {
      // Asks for the password in the clear, as any server may that is connected to without TLS.
      if (count === 1) socket.write(pgMessage("R", Buffer.from([0, 0, 0, 3])));
      else
        socket.end(
          pgMessage(
            "E",
            Buffer.from(`SFATAL\0VFATAL\0C28P01\0MI got ${echoes(got).join(" ").replaceAll("\0", " ")}\0\0`),
          ),
        );
    }),
} as const;

/** Tells all that it got in the body of an answer. */
export async function lyingHttp(status: number, bodyOf: (text: string) => string): Promise<number> {
  const server = createHttpServer(async (request, response) => {
    await buffer(request);
    const got = [request.method, request.url, ...request.rawHeaders].join(" ");
    const body = bodyOf(echoes(Buffer.from(got)).join(" "));
    response.writeHead(status, { "content-type": "application/x-amz-json-1.0" }).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}

const short = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const long = (value: number): Buffer =>
  Buffer.from([value >>> 24, (value >> 16) & 0xff, (value >> 8) & 0xff, value & 0xff]);
const longString = (text: string): Buffer => Buffer.concat([long(text.length), Buffer.from(text)]);

function amqpFrame(payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([1, 0, 0]), long(payload.length), payload, Buffer.from([0xce])]);
}

function amqpStart(): Buffer {
  return amqpFrame(
    Buffer.concat([short(10), short(10), Buffer.from([0, 9]), long(0), longString("PLAIN"), longString("en_US")]),
  );
}

/** The answer to SASL PLAIN: a zero, the user, a zero, the password. */
function plainOf(got: Buffer): Buffer {
  const at = got.indexOf("PLAIN");
  const length = got.readUInt32BE(at + 5);
  return got.subarray(at + 9, at + 9 + length);
}

const answered = new WeakMap<Socket, number>();

/** By the number of the request: which versions there are, which mechanisms, and no to whatever is given. */
function kafkaAnswer(request: Buffer): Buffer {
  const correlation = request.subarray(4, 8);
  const versions = [17, 18, 36, 3].map((key) => Buffer.concat([short(key), short(0), short(20), Buffer.from([0])]));
  const text = Buffer.from(`I got ${echoes(request).join(" ")}`);
  const bodies: Readonly<Record<number, readonly Buffer[]>> = {
    17: [
      short(0),
      long(3),
      ...["PLAIN", "OAUTHBEARER", "SCRAM-SHA-256"].map((one) => Buffer.concat([short(one.length), Buffer.from(one)])),
    ],
    18: [short(0), Buffer.from([versions.length + 1]), ...versions, long(0), Buffer.from([0])],
    36: [
      Buffer.from([0]),
      short(58),
      varint(text.length + 1),
      text,
      Buffer.from([1]),
      Buffer.alloc(8),
      Buffer.from([0]),
    ],
  };
  return Buffer.concat([correlation, ...(bodies[request.readUInt16BE(0)] ?? [])]);
}

function pgMessage(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), long(body.length + 4), body]);
}
