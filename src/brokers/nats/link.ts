/** One connection. It is never mended: when it is lost, whoever holds it opens another, and knows what was on its way. */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection, NodeConnectionOptions } from "@nats-io/transport-node";
import { ConfigurationError } from "../../core/errors.js";
import { loadPeer } from "../../core/peer.js";
import { withoutSecrets } from "../../core/secrets.js";
import { quote } from "../../core/show.js";
import { hostAndPort } from "../address.js";
import { servernameOf } from "../tls.js";
import { opening } from "../to-mend.js";
import { atMost, untilAborted } from "../until-aborted.js";
import type { Settings } from "./options.js";
import { said, wayOf } from "./way.js";

const farewellMs = 2_000;
const packages = "@nats-io/transport-node @nats-io/jetstream";
const what = "the broker nats()";
const transport = () => loadPeer("@nats-io/transport-node", what, () => import("@nats-io/transport-node"), packages);
const stream = () => loadPeer("@nats-io/jetstream", what, () => import("@nats-io/jetstream"), packages);

export type Client = Awaited<ReturnType<typeof transport>>;

export interface Link {
  readonly client: Client;
  readonly connection: NatsConnection;
  readonly manager: JetStreamManager;
  /** It is of no more use, and this is why. */
  readonly lost: unknown;
  /** At once. What is on its way is lost. */
  drop(reason: unknown): void;
  /** In good order, as far as the server answers. */
  close(): Promise<void>;
}

export interface LinkOptions {
  readonly name: string;
  readonly signal: AbortSignal;
  /** Called once, with the reason. */
  readonly onLost: (error: unknown) => void;
  /** What the server says of a message that it may not take, or of a subject that may not be read: as the client has it, not to be passed on as it is. */
  readonly onRefused: (error: unknown) => void;
}

/** Errors: `ConfigurationError` for a missing client and for what is to be mended; whatever else means that the broker is away. */
export async function openLink(settings: Settings, options: LinkOptions): Promise<Link> {
  const [client, { jetstreamManager }] = [await transport(), await stream()];
  const connecting = client.connect(connectionOptions(settings, options.name));
  let connection: NatsConnection;
  try {
    connection = await opening(wayOf(settings), untilAborted(connecting, options.signal), options.signal);
  } catch (error) {
    connecting.then(
      (late) => late.close(),
      () => undefined,
    );
    throw withoutSecrets(error, settings.secrets);
  }
  const { domain, timeoutMs: timeout } = settings;
  const api = { checkAPI: false, timeout, ...(domain !== undefined && { domain }) };
  const clean: LinkOptions = {
    ...options,
    onLost: (error) => options.onLost(said(error, settings)),
  };
  return new OpenLink(client, connection, await jetstreamManager(connection, api), clean);
}

function connectionOptions(settings: Settings, name: string): NodeConnectionOptions {
  const { address, token, tls, timeoutMs } = settings;
  const servername = servernameOf(address.host);
  const who = token === undefined ? { user: address.username, pass: address.password } : { token };
  const given = Object.fromEntries(Object.entries(who).filter(([, value]) => value !== undefined));
  return {
    ...given,
    servers: hostAndPort(address),
    name: `posthorn ${name}`,
    timeout: timeoutMs,
    reconnect: false,
    ignoreClusterUpdates: true,
    noAsyncTraces: true,
    pingInterval: Math.max(50, Math.floor(timeoutMs / 2)),
    maxPingOut: 1,
    ...(address.scheme === "tls" && { tls: { ...(servername !== undefined && { servername }), ...tls } }),
  };
}

class OpenLink implements Link {
  readonly client: Client;
  readonly connection: NatsConnection;
  readonly manager: JetStreamManager;
  readonly #options: LinkOptions;
  #lost: unknown;

  constructor(client: Client, connection: NatsConnection, manager: JetStreamManager, options: LinkOptions) {
    this.client = client;
    this.connection = connection;
    this.manager = manager;
    this.#options = options;
    connection.closed().then((error) => this.#lose(error ?? new Error("NATS has closed the connection")));
    void this.#listen();
  }

  get lost(): unknown {
    return this.#lost;
  }

  drop(reason: unknown): void {
    this.#lose(reason);
    // Also when it is silent: its goodbye is not waited for.
    void this.connection.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    if (this.#lost !== undefined) return;
    this.#lost = new Error("the connection was closed");
    // A connection that ends meanwhile answers no flush.
    await atMost(farewellMs, Promise.race([this.connection.flush(), this.connection.closed()]));
    await atMost(farewellMs, this.connection.close());
  }

  async #listen(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === "error") this.#options.onRefused(status.error);
    }
  }

  #lose(error: unknown): void {
    if (this.#lost !== undefined) return;
    this.#lost = error ?? new Error("the connection was dropped");
    this.#options.onLost(this.#lost);
  }
}

export function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

const codes = { consumerNotFound: 10014, consumerExists: 10148, notForAccount: 10039, streamNotFound: 10059 } as const;

export function isConsumerMissing(error: unknown): boolean {
  return codeOf(error) === codes.consumerNotFound;
}

/** Somebody has made it meanwhile, otherwise. Servers before 2.10 change it instead. */
export function isConsumerThere(error: unknown): boolean {
  return codeOf(error) === codes.consumerExists;
}

/** The configuration of the stream. Errors: `ConfigurationError` where there is none. */
export async function streamOf({ manager }: Link, settings: Settings) {
  try {
    return await manager.streams.info(settings.stream);
  } catch (error) {
    const code = codeOf(error);
    if (code !== codes.streamNotFound && code !== codes.notForAccount) throw error;
    const where = hostAndPort(settings.address);
    const message = `NATS at ${where} has no stream ${quote(settings.stream)} for this account. Make it there: Posthorn makes no streams.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { stream: settings.stream, where }, error);
  }
}
