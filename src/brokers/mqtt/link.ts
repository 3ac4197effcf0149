/**
 * One connection to an MQTT broker. It is opened once and never mended: when it is lost, whoever needs one opens another, so that nobody but the
 * relay decides what is sent again, and nobody but the broker what is delivered again.
 */
import type { IClientOptions, IConnackPacket, MqttClient } from "mqtt";
import { loadPeer } from "../../core/peer.js";
import { withoutSecrets } from "../../core/secrets.js";
import { clause } from "../../core/words.js";
import { opening } from "../to-mend.js";
import type { Settings } from "./options.js";
import { reasonInWords } from "./reasons.js";
import { wayOf } from "./way.js";

export interface LinkOptions {
  readonly clientId: string;
  /** Whether the broker forgets the client with the connection. */
  readonly clean: boolean;
  /** Of CONNECT, with version 5. */
  readonly properties?: NonNullable<IClientOptions["properties"]>;
  readonly signal: AbortSignal;
  /** Called before the first packet can come. */
  readonly prepare?: (client: MqttClient) => void;
}

/** How long a goodbye may take. */
const goodbyeMs = 500;
/** DISCONNECT without a reason, the same in every version. */
const disconnect = Uint8Array.of(0xe0, 0);

export class Link {
  readonly client: MqttClient;
  readonly connack: IConnackPacket;
  /** Settles when it is lost or closed. Never rejects. */
  readonly lost: Promise<Error>;
  readonly #settings: Settings;
  #settle: (error: Error) => void = () => undefined;
  #error: Error | undefined;

  private constructor(client: MqttClient, connack: IConnackPacket, settings: Settings) {
    this.client = client;
    this.connack = connack;
    this.#settings = settings;
    this.lost = new Promise((resolve) => {
      this.#settle = resolve;
    });
    client.on("disconnect", ({ reasonCode }) => this.#drop(`the broker ended it: ${reasonInWords(reasonCode)}`));
    client.on("error", (error) => this.#drop(textOf(error), error));
    client.on("close", () => this.#drop("it was closed"));
  }

  /** Why it is lost; undefined while it holds. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** Errors: `ConfigurationError` for a missing client and for what is to be mended; everything else means that the broker is away. */
  static async open(settings: Settings, options: LinkOptions): Promise<Link> {
    const { connect } = await loadPeer("mqtt", "the broker mqtt()", () => import("mqtt"));
    const { where } = settings;
    const { signal } = options;
    if (signal.aborted) throw new Error(`Opening a connection to ${where} was given up.`);
    const client = connect(clientOptions(settings, options));
    options.prepare?.(client);
    const opened = new Promise<Link>((resolve, reject) => {
      const fail = (error: Error) => {
        done();
        client.end(true);
        const failure = new Error(`There is no connection to ${where}: ${clause(textOf(error))}.`, { cause: error });
        reject(withoutSecrets(failure, settings.secrets));
      };
      const aborted = () => fail(new Error("opening was given up"));
      const closed = () => fail(new Error("the broker closed it before it was open"));
      const done = () => {
        signal.removeEventListener("abort", aborted);
        client.off("error", fail).off("close", closed);
      };
      signal.addEventListener("abort", aborted);
      client.on("error", fail).on("close", closed);
      client.once("connect", (connack) => {
        done();
        resolve(new Link(client, connack, settings));
      });
    });
    try {
      return await opening(wayOf(settings), opened, signal);
    } catch (error) {
      client.end(true);
      throw error;
    }
  }

  /** Gives it up: for the other side it is as if the network had failed. */
  fail(why: string): void {
    this.#drop(why);
    this.client.end(true);
  }

  /** Says goodbye, and waits for a moment until what was written before it has left. */
  async close(): Promise<void> {
    const { client } = this;
    if (this.#error === undefined) {
      this.#drop("it was closed here");
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, goodbyeMs);
        client.once("close", () => {
          clearTimeout(timer);
          resolve();
        });
        client.stream.end(disconnect);
      });
    }
    client.end(true);
  }

  #drop(why: string, cause?: Error): void {
    if (this.#error !== undefined) return;
    const { where, secrets } = this.#settings;
    const options = cause && { cause: withoutSecrets(cause, secrets) };
    this.#error = new Error(`The connection to ${where} is lost: ${secrets.hide(clause(why))}.`, options);
    this.#settle(this.#error);
  }
}

function clientOptions({ address, version, timeoutMs, tls }: Settings, options: LinkOptions): IClientOptions {
  const { scheme, host, port, username, password } = address;
  const { clientId, clean, properties } = options;
  return {
    ...tls,
    protocol: scheme === "mqtts" ? "mqtts" : "mqtt",
    host,
    port,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    rejectUnauthorized: true,
    protocolVersion: version,
    clientId,
    clean,
    reconnectPeriod: 0,
    resubscribe: false,
    connectTimeout: timeoutMs,
    // In seconds. By it a dead connection is noticed while nothing is on its way.
    keepalive: Math.max(1, Math.ceil(timeoutMs / 1_000)),
    ...(version === 5 && properties !== undefined && { properties }),
  };
}

/** Where several addresses were tried, the text stands in each of them. */
function textOf(error: Error): string {
  const { message } = error;
  return message === "" && error instanceof AggregateError ? String(error.errors[0]?.message) : message;
}
