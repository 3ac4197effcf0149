/** Relays as declared in this process: a reader whose handler is a broker. */
import type { AnyContract } from "../contracts/contract.js";
import { errorOf } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import type { CheckedPolicy, RelayedTo, StartFrom } from "../policies/policy.js";
import { checkRelay, type RelayFrom, type RelaySettings, relayedTo } from "../relays/options.js";
import { Relay as RunningRelay } from "../relays/relay.js";
import type { Carrier } from "../worker/carrier.js";
import type { Declared } from "../worker/registration.js";
import type { Handled } from "../worker/run.js";
import type { BrokerUse } from "./one-way.js";

/** A subscription, or the receiver of a queue, that hands every message to a broker. It has no handlers. */
export interface Relay {
  readonly name: string;
  readonly from: RelayFrom;
  /** The broker: what it is, and where, without credentials. */
  readonly to: RelayedTo;
  readonly policy: CheckedPolicy;
}

export class RelayDeclaration implements Declared, Relay {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly policy: CheckedPolicy;
  readonly startFrom: StartFrom;
  readonly handlers: ReadonlyMap<AnyContract, Handled> = new Map();
  readonly to: RelayedTo;
  readonly #settings: RelaySettings;
  readonly #service: string;
  readonly #logger: Logger;
  #relay: RunningRelay | undefined;

  constructor(name: string, options: unknown, service: string, logger: Logger) {
    const { kind, channel, startFrom, policy, settings } = checkRelay(options, name);
    this.name = name;
    this.kind = kind;
    this.channel = channel;
    this.startFrom = startFrom;
    this.policy = policy;
    this.to = relayedTo(settings.to);
    this.#settings = settings;
    this.#service = service;
    this.#logger = logger;
  }

  get use(): BrokerUse {
    return { way: "relay", name: this.name, broker: this.#settings.to };
  }

  get from(): RelayFrom {
    return this.kind === "event" ? { topic: this.channel } : { queue: this.channel };
  }

  get carrier(): Carrier {
    const { batchSize, to } = this.#settings;
    const { atOnce = Number.POSITIVE_INFINITY } = to;
    // Small calls that overlap: where one ends, others are on their way already.
    const size = Math.min(batchSize, Math.ceil(atOnce / 2));
    return { size, most: atOnce * 2, call: (messages) => this.#opened.carry(messages) };
  }

  get #opened(): RunningRelay {
    if (this.#relay === undefined) throw errorOf("PH_INTERNAL", `The relay "${this.name}" was not opened.`);
    return this.#relay;
  }

  /** Errors: `ConfigurationError` for what another attempt does not mend. */
  async open(): Promise<void> {
    const { name } = this;
    this.#relay = new RunningRelay({ name, service: this.#service, settings: this.#settings, logger: this.#logger });
    await this.#relay.open();
  }

  async close(): Promise<void> {
    await this.#relay?.close();
  }
}

export function relayUses(declared: Iterable<Declared>): readonly BrokerUse[] {
  return [...declared].filter((one) => one instanceof RelayDeclaration).map((relay) => relay.use);
}

/** Opens the relays among these, all or none, and returns how to close them. */
export async function openRelays(declared: readonly Declared[]): Promise<() => Promise<void>> {
  const relays = declared.filter((one) => one instanceof RelayDeclaration);
  const close = async (): Promise<void> => {
    await Promise.all(relays.map((relay) => relay.close()));
  };
  try {
    await Promise.all(relays.map((relay) => relay.open()));
    return close;
  } catch (error) {
    await close();
    throw error;
  }
}
