/** The client, loaded when it is needed, and the queue that it is used for. */
import { Agent } from "node:https";
import type { SQSClient } from "@aws-sdk/client-sqs";
import { ConfigurationError } from "../../core/errors.js";
import { loadPeer } from "../../core/peer.js";
import { opening } from "../to-mend.js";
import { within } from "../within.js";
import { codeOf, isMissing, said, wayOf } from "./errors.js";
import type { Settings } from "./options.js";

export type Library = typeof import("@aws-sdk/client-sqs");

/** The largest message and batch of a queue that does not say otherwise. */
const usualBytes = 262_144;
/** Where an address is given instead of a region, something has to be signed all the same. */
const anyRegion = "us-east-1";

export interface Queue {
  readonly library: Library;
  readonly client: SQSClient;
  readonly url: string;
  readonly maxBytes: number;
  /** For one request: ends when nothing comes back for too long, or when `signal` fires. */
  readonly limit: (signal?: AbortSignal, waitMs?: number) => { readonly abortSignal: AbortSignal };
}

/**
 * Loads the client and looks for the queue.
 *
 * Errors: `ConfigurationError` where there is no client, no region or no such queue, and for what is to be mended; everything else means that SQS is away.
 */
export async function openQueue(settings: Settings, signal: AbortSignal): Promise<Queue> {
  const { queue, owner, timeoutMs } = settings;
  const library = await loadPeer("@aws-sdk/client-sqs", "the broker sqs()", () => import("@aws-sdk/client-sqs"));
  const client = clientOf(library, settings);
  remember(client, settings);
  const limit = (more?: AbortSignal, waitMs = 0) => ({ abortSignal: within(waitMs + timeoutMs, more) });
  try {
    await needRegion(client);
    const { GetQueueUrlCommand } = library;
    const which = { QueueName: queue, ...(owner !== undefined && { QueueOwnerAWSAccountId: owner }) };
    const asking = client.send(new GetQueueUrlCommand(which), limit(signal));
    const { QueueUrl: url } = await opening(wayOf(settings), asking, signal);
    if (url === undefined) throw new Error("it does not tell the address of the queue");
    return { library, client, url, maxBytes: await maxBytesOf({ library, client, url, limit }, signal), limit };
  } catch (error) {
    client.destroy();
    if (error instanceof ConfigurationError) throw error;
    if (!isMissing(error)) throw said("SQS cannot be reached", settings, error);
    const message = `SQS has no queue ${settings.where}, or does not show it to this identity. Make it, or correct its name.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { where: settings.where });
  }
}

function clientOf({ SQSClient }: Library, settings: Settings): SQSClient {
  const { endpoint, region, credentials, tls, timeoutMs, concurrency } = settings;
  const chosen = region ?? (endpoint === undefined ? undefined : anyRegion);
  return new SQSClient({
    ...(chosen !== undefined && { region: chosen }),
    // The queue tells its own address, which need not be the one that it is reached by.
    ...(endpoint !== undefined && { endpoint, useQueueUrlAsEndpoint: false }),
    ...(credentials !== undefined && { credentials: { ...credentials } }),
    // A connection that was closed while it was idle is tried again; whether more is tried is for the policy of the relay to say.
    maxAttempts: 2,
    requestHandler: {
      connectionTimeout: timeoutMs,
      ...(tls !== undefined && { httpsAgent: new Agent({ ...tls, keepAlive: true, maxSockets: concurrency * 2 }) }),
    },
  });
}

/** What the SDK finds by itself is as secret as what is given, and changes now and then: the token goes with each request that is signed. */
function remember({ middlewareStack, config }: SQSClient, { secrets }: Settings): void {
  middlewareStack.add(
    (next) => async (args) => {
      const { accessKeyId, secretAccessKey, sessionToken } = await config.credentials();
      for (const one of [secretAccessKey, sessionToken, accessKeyId]) secrets.learn(one);
      return next(args);
    },
    { step: "finalizeRequest", priority: "low", name: "posthornSecrets" },
  );
}

async function needRegion(client: SQSClient): Promise<void> {
  try {
    await client.config.region();
  } catch (error) {
    const message = "sqs.region is needed: neither the environment nor the profile of the SDK names one.";
    throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "sqs.region" }, error);
  }
}

/** Whoever may send need not be allowed to ask. */
async function maxBytesOf(queue: Omit<Queue, "maxBytes">, signal: AbortSignal): Promise<number> {
  const { GetQueueAttributesCommand } = queue.library;
  const question = new GetQueueAttributesCommand({ QueueUrl: queue.url, AttributeNames: ["MaximumMessageSize"] });
  try {
    const { Attributes: attributes } = await queue.client.send(question, queue.limit(signal));
    return Number(attributes?.MaximumMessageSize ?? usualBytes);
  } catch (error) {
    if (codeOf(error)?.startsWith("AccessDenied")) return usualBytes;
    throw error;
  }
}
