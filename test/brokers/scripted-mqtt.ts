/** An MQTT 5 server that does what a test says, and sees what a client really sends. It knows just the packets that the tests need. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

export interface Packet {
  readonly kind: "connect" | "publish" | "puback" | "subscribe" | "pingreq" | "disconnect" | "other";
  /** All of it. */
  readonly bytes: Buffer;
  /** Of PUBLISH, PUBACK and SUBSCRIBE. */
  readonly id: number;
  /** Of PUBLISH. */
  readonly topic: string;
}

const kinds: Readonly<Record<number, Packet["kind"]>> = {
  1: "connect",
  3: "publish",
  4: "puback",
  8: "subscribe",
  12: "pingreq",
  14: "disconnect",
};

/** Properties of CONNACK by their number. */
export const receiveMaximum = (n: number) => [0x21, n >> 8, n & 0xff];
export const maximumPacketSize = (n: number) => [0x27, n >>> 24, (n >> 16) & 0xff, (n >> 8) & 0xff, n & 0xff];

export const connack = (properties: readonly number[] = [], reason = 0) =>
  Buffer.from([0x20, 3 + properties.length, 0, reason, properties.length, ...properties]);
export const puback = (id: number, reason = 0) => Buffer.from([0x40, 4, id >> 8, id & 0xff, reason, 0]);
export const suback = (id: number, granted: number) => Buffer.from([0x90, 4, id >> 8, id & 0xff, 0, granted]);
export const goodbye = (reason: number) => Buffer.from([0xe0, 2, reason, 0]);
export const publish = (id: number, topic: string, body: string, qos = 1) => {
  const name = Buffer.from(topic);
  const rest = [name.length >> 8, name.length & 0xff, ...name, ...(qos > 0 ? [id >> 8, id & 0xff] : []), 0];
  return Buffer.from([0x30 | (qos << 1), rest.length + body.length, ...rest, ...Buffer.from(body)]);
};

export class ScriptedMqtt {
  readonly packets: Packet[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** `answer` is called with each packet of each connection. */
  private constructor(answer: (packet: Packet, socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => this.#sockets.delete(socket));
      let rest = Buffer.alloc(0);
      socket.on("data", (chunk) => {
        rest = Buffer.concat([rest, chunk]);
        for (let packet = first(rest); packet !== undefined; packet = first(rest)) {
          rest = rest.subarray(packet.bytes.length);
          this.packets.push(packet);
          answer(packet, socket);
        }
      });
    });
  }

  static async open(answer: (packet: Packet, socket: Socket) => void): Promise<ScriptedMqtt> {
    const server = new ScriptedMqtt(answer);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get url(): string {
    const address = this.#server.address();
    return `mqtt://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  of(kind: Packet["kind"]): readonly Packet[] {
    return this.packets.filter((one) => one.kind === kind);
  }

  /** To all that are connected. */
  say(...packets: readonly Buffer[]): void {
    for (const socket of this.#sockets) socket.write(Buffer.concat(packets));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** The first packet, if all of it is there. */
function first(bytes: Buffer): Packet | undefined {
  let length = 0;
  let at = 1;
  for (let factor = 1; ; factor *= 128, at += 1) {
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    length += (byte & 127) * factor;
    if ((byte & 128) === 0) break;
  }
  at += 1;
  if (bytes.length < at + length) return undefined;
  const packet = bytes.subarray(0, at + length);
  const kind = kinds[(packet[0] ?? 0) >> 4] ?? "other";
  if (kind !== "publish") return { kind, bytes: packet, topic: "", id: length >= 2 ? packet.readUInt16BE(at) : 0 };
  const end = at + 2 + packet.readUInt16BE(at);
  return { kind, bytes: packet, topic: packet.toString("utf8", at + 2, end), id: packet.readUInt16BE(end) };
}
