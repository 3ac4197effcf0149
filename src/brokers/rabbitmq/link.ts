/**
 * One connection with one channel. It is never mended: when it is lost, whoever holds it opens another.
 *
 * The client would connect again by itself; then nobody knew which channel a message or an acknowledgement belongs to, and an acknowledgement on the wrong
 * channel settles the wrong message.
 */
import type { Channel, Connection, ConnectionOptions } from "rabbitmq-client";
import { ConfigurationError } from "../../core/errors.js";
import { loadPeer } from "../../core/peer.js";
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { OpenOptions } from "../broker.js";
import { servernameOf } from "../tls.js";
import { elsewhere, opening } from "../to-mend.js";
import { atMost, untilAborted } from "../until-aborted.js";
import { within } from "../within.js";
import type { Settings } from "./options.js";
import { wayOf } from "./way.js";

/** Headers of Posthorn and of a trace together fit into one frame of this size; RabbitMQ's own default is larger. */
export const frameBytes = 32_768;
const farewellMs = 2_000;

export interface Link {
  readonly channel: Channel;
  /** It is of no more use, and this is why. */
  readonly lost: unknown;
  /** The broker takes no messages for now, and this is why: memory or disk. */
  readonly blocked: string | undefined;
  /** At once. What is on its way is lost. */
  drop(reason: unknown): void;
  /** In good order, as far as the broker answers. */
  close(): Promise<void>;
}

/** Errors: `ConfigurationError` for a missing client or virtual host, and for what is to be mended; whatever else means that the broker is away. */
export async function openLink(
  settings: Settings,
  { name, signal, onTrouble }: Pick<OpenOptions, "name" | "signal" | "onTrouble">,
  prepare: (channel: Channel) => Promise<void>,
): Promise<Link> {
  const { Connection } = await loadPeer("rabbitmq-client", "RabbitMQ", () => import("rabbitmq-client"));
  const limit = within(settings.timeoutMs, signal);
  await checkProtocol(settings, limit);
  const link = new OpenLink(new Connection(connectionOptions(settings, name)), (error) =>
    onTrouble(withoutSecrets(error, settings.secrets)),
  );
  try {
    await opening(wayOf(settings), untilAborted(link.ready(prepare), limit), limit);
    known.add(settings);
    return link;
  } catch (error) {
    link.drop(error);
    const late = error === limit.reason && !signal.aborted;
    throw late ? tooLate(settings) : explained(withoutSecrets(error, settings.secrets), settings);
  }
}

function connectionOptions({ address, vhost, tls, timeoutMs }: Settings, name: string): ConnectionOptions {
  const { scheme, host, port, username = "guest", password = "guest" } = address;
  const servername = servernameOf(host);
  return {
    hostname: host,
    port,
    username,
    password,
    vhost,
    ...(scheme === "amqps" && { tls: { ...(servername !== undefined && { servername }), ...tls } }),
    connectionName: `posthorn ${name}`,
    connectionTimeout: timeoutMs,
    acquireTimeout: timeoutMs,
    // In seconds. The client gives up after two of them without a sign of life.
    heartbeat: Math.max(1, Math.ceil(timeoutMs / 2_000)),
    frameMax: frameBytes,
    maxChannels: 1,
    noDelay: true,
  };
}

const known = new WeakSet<Settings>();

/** Before the client sees an answer: it takes the letters of another protocol for the length of a frame, and ends the process. Once it was RabbitMQ, it stays. */
async function checkProtocol(settings: Settings, signal: AbortSignal): Promise<void> {
  if (known.has(settings)) return;
  const error = await elsewhere(wayOf(settings), signal);
  if (error !== undefined) throw error;
}

function tooLate({ address, timeoutMs }: Settings): Error {
  return new Error(`RabbitMQ at ${hostAndPort(address)} did not answer within ${timeoutMs} ms`);
}

function explained(error: unknown, { address }: Settings): unknown {
  if (codeOf(error) !== "NOT_ALLOWED") return error;
  const where = hostAndPort(address);
  const message = `RabbitMQ at ${where} has no such virtual host, or the user may not enter it. Look at the path of the URL; an empty one is "/".`;
  return new ConfigurationError("PH_BROKER_DESTINATION", message, { where }, error);
}

export function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

class OpenLink implements Link {
  readonly #connection: Connection;
  readonly #onTrouble: (error: unknown) => void;
  readonly #connected: Promise<void>;
  #channel: Channel | undefined;
  #lost: unknown;
  #blocked: string | undefined;

  constructor(connection: Connection, onTrouble: (error: unknown) => void) {
    this.#connection = connection;
    this.#onTrouble = onTrouble;
    this.#connected = new Promise((resolve, reject) => {
      connection.on("connection", resolve);
      // Also what the broker says of the channel when nothing that waits is to blame. The first is the last.
      connection.on("error", (error: unknown) => {
        reject(error);
        if (this.#lost === undefined && this.#channel !== undefined) this.#onTrouble(error);
        this.drop(error);
      });
    });
    connection.on("connection.blocked", (reason) => {
      this.#blocked = reason;
    });
    connection.on("connection.unblocked", () => {
      this.#blocked = undefined;
    });
  }

  async ready(prepare: (channel: Channel) => Promise<void>): Promise<void> {
    await this.#connected;
    const channel = await this.#connection.acquire();
    channel.on("close", () => {
      this.#lost ??= new Error("RabbitMQ has closed the channel");
    });
    await prepare(channel);
    this.#channel = channel;
  }

  get channel(): Channel {
    if (this.#channel === undefined) throw new Error("the channel is not open yet");
    return this.#channel;
  }

  get lost(): unknown {
    return this.#lost;
  }

  get blocked(): string | undefined {
    return this.#blocked;
  }

  drop(reason: unknown): void {
    this.#lost ??= reason ?? new Error("the connection was dropped");
    this.#connection.unsafeDestroy();
  }

  async close(): Promise<void> {
    const farewell = async () => {
      await this.#channel?.close();
      await this.#connection.close();
    };
    if (this.#lost === undefined) await atMost(farewellMs, farewell());
    this.drop(new Error("the connection was closed"));
  }
}
