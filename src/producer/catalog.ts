/**
 * The ids of contracts and channels. A contract is registered when it is first said or worked on, and remembered for good.
 *
 * Registration runs beside the caller's transaction, so that it neither holds locks for it nor goes with its rollback. On a database
 * with one connection it must run inside; then it is remembered only once the transaction is known to have committed.
 */
import { type AnyContract, describe } from "../contracts/contract.js";
import { readableVersions } from "../contracts/upcast.js";
import type { Database, Executor } from "../core/database.js";
import type { Outgoing } from "../store/publish.js";
import { type ContractIds, makeLane, registerContract, registerTopic, type TopicEntry } from "../store/registry.js";

export class Catalog {
  readonly #database: Database;
  readonly #side: Executor;
  readonly #service: string;
  readonly #known = new WeakMap<AnyContract, ContractIds>();
  readonly #owned = new WeakSet<AnyContract>();
  readonly #lanes = new Set<string>();
  /** Topics that this process declares; and those of them that are registered. */
  readonly #topics: ReadonlyMap<string, TopicEntry>;
  readonly #made = new Set<string>();

  constructor(
    database: Database,
    side: Executor,
    service: string,
    topics: ReadonlyMap<string, TopicEntry> = new Map(),
  ) {
    this.#database = database;
    this.#side = side;
    this.#service = service;
    this.#topics = topics;
  }

  /** The ids where they are known already. `publishes`: the caller states the fact, and so owns an event. */
  known(contract: AnyContract, publishes: boolean): ContractIds | undefined {
    return publishes && !this.#owned.has(contract) ? undefined : this.#known.get(contract);
  }

  /** The ids of contracts, registering those that are new. `inside`: the transaction that the caller is in, if any. */
  async ids(
    contracts: Iterable<AnyContract>,
    publishes: boolean,
    inside?: Executor,
  ): Promise<{ readonly ids: ReadonlyMap<AnyContract, ContractIds>; readonly remember: () => void }> {
    const ids = new Map<AnyContract, ContractIds>();
    const unsure: AnyContract[] = [];
    for (const contract of new Set(contracts)) {
      const known = this.known(contract, publishes);
      if (known !== undefined) {
        ids.set(contract, known);
        continue;
      }
      const within = this.#database.single && inside !== undefined;
      if (contract.kind === "event") await this.#topic(contract.channel, within ? inside : this.#side, within);
      const fresh = await registerContract(within ? inside : this.#side, describe(contract), this.#service, publishes);
      ids.set(contract, fresh);
      if (within) unsure.push(contract);
      else this.#remember(contract, fresh, publishes);
    }
    return {
      ids,
      remember: () => {
        for (const contract of unsure) {
          const fresh = ids.get(contract);
          if (fresh !== undefined) this.#remember(contract, fresh, publishes);
        }
      },
    };
  }

  /** The ids of all versions that a contract reads, by version. */
  async versions(contract: AnyContract): Promise<ReadonlyMap<number, ContractIds>> {
    const ids = new Map<number, ContractIds>();
    for (const version of readableVersions(contract)) {
      const entry = { ...describe(contract), version };
      const fresh = await registerContract(this.#side, entry, this.#service, false);
      ids.set(version, fresh);
      if (version === contract.version) this.#remember(contract, fresh, false);
    }
    return ids;
  }

  /** Registers the topics that this process declares. Errors: `ContractConflictError` for another number of lanes. */
  async topics(executor: Executor): Promise<void> {
    for (const name of this.#topics.keys()) await this.#topic(name, executor, false);
  }

  /** Before anything is published to it: that would make it, with one lane. */
  async #topic(name: string, executor: Executor, unsure: boolean): Promise<void> {
    const topic = this.#topics.get(name);
    if (topic === undefined || this.#made.has(name)) return;
    await registerTopic(executor, topic, this.#service);
    if (!unsure) this.#made.add(name);
  }

  /**
   * Makes the lanes of priorities that are new to their queues, so that no transaction waits for another that made one. On a database with one
   * connection nobody could wait, and the statement that writes the message makes it.
   */
  async lanes(messages: readonly Outgoing[]): Promise<void> {
    if (this.#database.single) return;
    for (const { channel, extras } of messages) {
      if (extras === undefined || extras.priority === 0) continue;
      const lane = `${channel}:${extras.priority}`;
      if (this.#lanes.has(lane)) continue;
      await makeLane(this.#side, channel, extras.priority);
      this.#lanes.add(lane);
    }
  }

  #remember(contract: AnyContract, ids: ContractIds, publishes: boolean): void {
    this.#known.set(contract, ids);
    if (publishes) this.#owned.add(contract);
  }
}
