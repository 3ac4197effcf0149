/** The intakes that this process declares: registered once, and kept by each of its registrations as a worker. */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import type { Catalog } from "../producer/catalog.js";
import type { Waker } from "../producer/waker.js";
import { declareIntake } from "../store/intake.js";
import { Keeper, type Registered } from "./keeper.js";
import type { IntakeDeclaration } from "./options.js";
import { type Known, Reader } from "./reading.js";
import type { Refusals } from "./refusals.js";

/** What a process declares, and what its broker has refused since. */
export interface DeclaredIntake {
  readonly declaration: IntakeDeclaration;
  readonly refusals: Refusals;
}

export interface IntakesOptions {
  readonly declared: readonly DeclaredIntake[];
  readonly executor: Executor;
  readonly side: Executor;
  readonly catalog: Pick<Catalog, "versions">;
  readonly waker: Pick<Waker, "wake">;
  readonly logger: Logger;
}

export class Intakes {
  readonly #options: IntakesOptions;
  #registered: readonly Registered[] = [];

  constructor(options: IntakesOptions) {
    this.#options = options;
  }

  /** Once for each start. Errors: `ContractConflictError`. */
  async declare(): Promise<void> {
    const { declared, side } = this.#options;
    const registered: Registered[] = [];
    for (const { declaration, refusals } of declared) {
      const { name, service, broker, contracts, keepMs, alerts } = declaration;
      const known = await this.#know(declaration);
      const entry = {
        name,
        broker: broker.kind,
        place: broker.where,
        keepMs,
        awayMs: alerts.awayMs,
        bounds: { refused: alerts.refused, invalid: alerts.invalid },
        contracts: contracts.map((one) => ({ name: one.name, owner: one.owner ?? null })),
      };
      const id = await declareIntake(side, entry, service);
      registered.push({ id, declaration, reader: new Reader(declaration, known), refusals });
    }
    this.#registered = registered;
  }

  async #know({ contracts }: IntakeDeclaration): Promise<ReadonlyMap<string, ReadonlyMap<number, Known>>> {
    const known = new Map<string, Map<number, Known>>();
    for (const contract of contracts) {
      const versions = known.get(contract.name) ?? new Map<number, Known>();
      for (const [version, ids] of await this.#options.catalog.versions(contract))
        versions.set(version, { contract, version, ids });
      known.set(contract.name, versions);
    }
    return known;
  }

  /** For a worker that was registered; undefined where there is nothing to keep. `again`: it is not the first of this process. */
  async begin(worker: string, again: boolean): Promise<Keeper | undefined> {
    if (this.#registered.length === 0) return undefined;
    const { executor, side, logger, waker } = this.#options;
    const keeper = new Keeper({
      worker,
      executor,
      side,
      logger,
      registered: this.#registered,
      onWritten: (channels) => waker.wake(channels),
    });
    await keeper.begin(again);
    return keeper;
  }
}
