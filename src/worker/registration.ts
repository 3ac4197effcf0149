/** How a process puts itself into the registry: what it works on, what it can handle, and itself. */
import { hostname } from "node:os";
import type { AnyContract } from "../contracts/contract.js";
import type { Listener, Session } from "../core/database.js";
import { ContractConflictError } from "../core/errors.js";
import { libraryVersion } from "../core/library.js";
import { type CheckedPolicy, type StartFrom, storedPolicy } from "../policies/policy.js";
import type { Catalog } from "../producer/catalog.js";
import { backendOf, registerWorker } from "../store/fleet.js";
import { registerSubscription } from "../store/registry.js";
import { declareRetention, type Retention } from "../store/segments.js";
import type { Carrier } from "./carrier.js";
import { EveryHandler, type Handlers } from "./every.js";
import type { ReaderOptions } from "./reading.js";
import type { Handled } from "./run.js";

/** A queue or subscription that is worked on here. */
export interface Declared {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly policy: CheckedPolicy;
  readonly startFrom: StartFrom;
  readonly handlers: ReadonlyMap<AnyContract, Handled>;
  /** In place of them: takes every message of the channel, whatever it is called, with its payload as the JSON text that was stored. */
  readonly carrier?: Carrier;
}

export interface Registering {
  readonly service: string;
  readonly declared: readonly Declared[];
  readonly catalog: Catalog;
  /** Without a heartbeat for so long, a worker counts as dead. */
  readonly timeoutMs: number;
  /** What is kept of the log; `explicit`: this process was told so. */
  readonly retention: Retention & { readonly explicit: boolean };
}

/** Connections, as far as they are open. */
export interface Connections {
  readonly session: Session;
  readonly listener: Listener | undefined;
  readonly sessionKey: string | null;
}

export interface Registered {
  readonly declared: Declared;
  readonly ids: ReaderOptions["ids"];
  readonly handlers: Handlers;
}

/** How often a subscription may be removed while we register for it. */
const mostRemovals = 5;

/** Who removes a subscription in the moment between the two makes no worker fail: it is declared anew, as at any later start. */
export async function registerAll(
  options: Registering,
  connections: Connections,
  again: boolean,
): Promise<{ readonly worker: string; readonly readers: readonly Registered[] }> {
  for (let removals = 1; ; removals += 1) {
    const readers = await register(options, connections.session, again);
    try {
      return { worker: await registerSelf(options, connections, readers), readers };
    } catch (error) {
      const removed = error instanceof ContractConflictError && error.code === "PH_SUBSCRIPTION_REMOVED";
      if (!removed || removals >= mostRemovals) throw error;
    }
  }
}

async function register(
  { declared, service, catalog, retention }: Registering,
  session: Session,
  again: boolean,
): Promise<Registered[]> {
  await declareRetention(session, retention, service, retention.explicit);
  await catalog.topics(session);
  const registered: Registered[] = [];
  const by = { host: hostname(), pid: process.pid, library: libraryVersion, again };
  for (const one of declared) {
    const { name, kind, channel, policy, startFrom } = one;
    const entry = {
      name,
      kind,
      channel,
      idempotency: policy.idempotency,
      policy: JSON.stringify(storedPolicy(policy)),
      startFrom,
    };
    const ids = await registerSubscription(session, entry, service, by);
    registered.push({ declared: one, ids, handlers: await handlersOf(one, catalog) });
  }
  return registered;
}

async function handlersOf({ kind, channel, carrier, handlers: given }: Declared, catalog: Catalog): Promise<Handlers> {
  if (carrier !== undefined) return new EveryHandler(kind, channel);
  const handlers = new Map<number, Handled>();
  for (const [contract, handled] of given) {
    for (const [version, known] of await catalog.versions(contract)) {
      handlers.set(known.contract, { ...handled, version });
    }
  }
  return handlers;
}

async function registerSelf(
  { service, timeoutMs }: Registering,
  { session, listener, sessionKey }: Connections,
  readers: readonly Registered[],
): Promise<string> {
  const backends = sessionKey === null ? [] : [await backendOf(session), listener && (await backendOf(listener))];
  return registerWorker(session, {
    service,
    host: hostname(),
    pid: process.pid,
    timeoutMs,
    sessionKey,
    backends: backends.filter((backend) => backend !== undefined),
    library: libraryVersion,
    attends: readers.map(({ declared, ids, handlers }) => ({
      subscription: ids.subscription,
      contracts: [...handlers.keys()],
      policy: storedPolicy(declared.policy),
    })),
  });
}
