/** The client, loaded when it is needed, and what all of its parts are given. */
import type { BaseOptions, Consumer, Producer } from "@platformatic/kafka";
import { ConfigurationError } from "../../core/errors.js";
import { loadPeer } from "../../core/peer.js";
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import { opening, toMend, type Way } from "../to-mend.js";
import { atMost, untilAborted } from "../until-aborted.js";
import { deniedBy, inWords, plain, propertyOf } from "./errors.js";
import type { Settings } from "./options.js";

export type Library = typeof import("@platformatic/kafka");
export type KafkaProducer = Producer<Buffer, Buffer, Buffer, Buffer>;
export type KafkaConsumer = Consumer<Buffer, Buffer, Buffer, Buffer>;
type Client = KafkaConsumer | KafkaProducer;

const farewellMs = 2_000;

/** Errors: `ConfigurationError` with the code `PH_PEER_MISSING`. */
export function loadKafka(): Promise<Library> {
  return loadPeer("@platformatic/kafka", "the broker kafka()", () => import("@platformatic/kafka"));
}

export function baseOptions(settings: Settings, name: string): BaseOptions {
  const { servers, tls, sasl, timeoutMs } = settings;
  return {
    // The protocol has no letters that are not allowed; the client has.
    clientId: `posthorn-${name.replace(/\s+/g, "-")}`,
    bootstrapBrokers: servers.map(({ host, port }) => ({ host, port })),
    connectTimeout: Math.min(timeoutMs, 10_000),
    requestTimeout: timeoutMs,
    timeout: timeoutMs,
    autocreateTopics: false,
    retries: 0,
    retryDelay: 100,
    ...(tls !== undefined && { tls }),
    ...(sasl !== undefined && { sasl: { ...sasl } }),
  };
}

/**
 * Connects, and looks whether the topic is there.
 *
 * Errors: `ConfigurationError` where it is not, and for what is to be mended; otherwise what the client says, in words.
 */
export async function checkTopic(client: Client, settings: Settings, signal: AbortSignal): Promise<void> {
  const connecting = opening(wayOf(settings), untilAborted(client.listApis(), signal), signal);
  await spoken("Kafka cannot be reached", settings, connecting);
  try {
    await untilAborted(client.metadata({ topics: [settings.topic], forceUpdate: true }), signal);
  } catch (error) {
    // The client turns the broker's own code into a mistake of its user; the connection was shown to work before.
    if (propertyOf(error, "code") !== "PLT_KFK_USER") throw said("Kafka does not describe its topic", settings, error);
    const message = `Kafka at ${settings.where} has no such topic, or does not show it to this user. Make it, or correct its name: topics are not made by asking for them.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { where: settings.where });
  }
}

/** What it rejects with is said in words, without credentials, or is what is to be mended. */
export async function spoken<T>(what: string, settings: Settings, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw said(what, settings, error);
  }
}

export function said(what: string, settings: Settings, error: unknown): unknown {
  const { where, secrets } = settings;
  return toMend(wayOf(settings), error) ?? withoutSecrets(inWords(`${what} (${where})`, error), secrets);
}

function wayOf({ servers, tls, secrets }: Settings): Way {
  return {
    broker: "Kafka",
    where: servers.map(hostAndPort).join(","),
    servers,
    scheme: tls === undefined ? "kafka" : "kafkas",
    schemes: ["kafka", "kafkas"],
    secrets,
    plain,
    hello: { says: plain.says, isOne: plain.isAnswer },
    denied: deniedBy,
  };
}

/** Says goodbye, for a short time only: a broker that is silent does not answer it. Never throws. */
export async function closeClient(client: Client): Promise<void> {
  await atMost(farewellMs, Promise.resolve(client.close(true)));
  // A goodbye that failed leaves its connections open.
  await atMost(farewellMs, client.connections.close());
}
