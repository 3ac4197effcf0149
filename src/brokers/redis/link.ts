/**
 * One connection to Redis, which is lost once and for all when it is lost: whoever needs another opens it.
 *
 * The client's own ways to go on are turned off: it would send again what it had sent, and nobody could tell what was written twice.
 */
import type { Redis } from "ioredis";
import { ConfigurationError } from "../../core/errors.js";
import { loadPeer } from "../../core/peer.js";
import { servernameOf } from "../tls.js";
import { opening } from "../to-mend.js";
import { untilAborted } from "../until-aborted.js";
import { within } from "../within.js";
import { codeOf, said, wayOf } from "./errors.js";
import type { Settings } from "./options.js";

export class Link {
  readonly #settings: Settings;
  readonly #redis: Redis;
  #lost: Error | undefined;
  /** What the client said first, before it is put into words of ours: never passed on as it is. */
  #first: unknown;
  #onLost: (error: Error) => void;
  #closed = false;

  private constructor(settings: Settings, redis: Redis, onLost: (error: Error) => void) {
    this.#settings = settings;
    this.#redis = redis;
    this.#onLost = onLost;
    // Told by the close that follows; without a listener it would be printed.
    redis.on("error", (error: unknown) => {
      this.#first ??= error;
      this.#lost ??= said("Redis is lost", settings, error);
    });
    redis.on("end", () => {
      this.#lost ??= said("Redis is lost", settings, new Error("the connection was closed"));
      if (!this.#closed) this.#onLost(this.#lost);
    });
  }

  /** Errors: `ConfigurationError` for a missing client and for what is to be mended; everything else means that Redis is away. */
  static async open(
    settings: Settings,
    name: string,
    signal: AbortSignal,
    onLost: (error: Error) => void,
  ): Promise<Link> {
    const { address, database, timeoutMs, tls } = settings;
    const { Redis } = await loadPeer("ioredis", "the broker redis()", () => import("ioredis"));
    const servername = servernameOf(address.host);
    const redis = new Redis({
      host: address.host,
      port: address.port,
      ...(address.username !== undefined && { username: address.username }),
      ...(address.password !== undefined && { password: address.password }),
      ...(tls !== undefined && { tls: { ...(servername !== undefined && { servername }), ...tls } }),
      db: database,
      connectionName: `posthorn-${name.replace(/[^\x21-\x7e]/g, "-")}`,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      retryStrategy: null,
      connectTimeout: timeoutMs,
      // The answers look alike in all versions of the client.
      protocol: 2,
    });
    let isOpen = false;
    const link = new Link(settings, redis, (error) => {
      if (isOpen) onLost(error);
    });
    try {
      // The client's own limit ends with the connection; a server that accepts and says nothing has to be left as well.
      const limit = within(timeoutMs, signal);
      // The client rejects with the end of the connection, and has told before why it ended.
      const connected = redis.connect().catch((error: unknown) => Promise.reject(link.#first ?? error));
      await opening(wayOf(settings), untilAborted(connected, limit), limit);
      isOpen = true;
      return link;
    } catch (error) {
      link.close();
      throw error instanceof ConfigurationError
        ? error
        : said("Redis cannot be reached", settings, link.#first ?? link.#lost ?? error);
    }
  }

  get lost(): Error | undefined {
    return this.#lost;
  }

  /**
   * Runs a command, or several in one transaction. Silence for longer than the limit, beside the time that the command itself waits, ends the connection.
   *
   * Errors: what Redis says, as the client has it: not to be passed on as it is.
   */
  async within<T>(ms: number, work: (redis: Redis) => Promise<T>): Promise<T> {
    if (this.#lost !== undefined) throw this.#lost;
    const timer = setTimeout(() => {
      this.#lost ??= said("Redis is lost", this.#settings, new Error(`it said nothing for ${ms} ms`));
      this.#redis.disconnect();
    }, ms);
    try {
      return await work(this.#redis);
    } finally {
      clearTimeout(timer);
    }
  }

  run<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
    return this.within(this.#settings.timeoutMs, work);
  }

  close(): void {
    this.#closed = true;
    this.#lost ??= new Error("the connection was closed");
    this.#redis.disconnect();
  }
}

/** What the key is looked at for at start: another attempt does not make it a stream. */
export async function checkStream(link: Link, settings: Settings): Promise<void> {
  const { stream, where } = settings;
  const wrong = (message: string): never => {
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { where });
  };
  const type = await link
    .run((redis) => redis.type(stream))
    .catch((error: unknown) => {
      if (codeOf(error) === "MOVED")
        return wrong(`Redis at ${where} is part of a cluster, and another server of it has the stream. Name that one.`);
      throw said("Redis does not tell of its stream", settings, error);
    });
  if (type !== "stream" && type !== "none") wrong(`Redis at ${where} has a ${type} of that name, and no stream.`);
}
