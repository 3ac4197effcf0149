/** The intakes that this process declares: registered once, and kept by each of its registrations as a worker. */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import type { Catalog } from "../producer/catalog.js";
import type { Waker } from "../producer/waker.js";
import { type BegunIntake, beginIntake, withdrawIntake } from "../store/intake.js";
import { registeredIntakes } from "../store/operate.js";
import { Keeper, type Registered } from "./keeper.js";
import type { Noted } from "./noted.js";
import type { IntakeDeclaration } from "./options.js";
import { predecessorInWords, predecessors } from "./predecessors.js";
import { type Known, Reader } from "./reading.js";
import type { Refusals } from "./refusals.js";

/** What a process declares, and what its broker has refused and its list got since. */
export interface DeclaredIntake {
  readonly declaration: IntakeDeclaration;
  readonly refusals: Refusals;
  readonly noted: Noted;
}

export interface IntakesOptions {
  readonly declared: readonly DeclaredIntake[];
  /** Of all that the instance declares, also of those that are not started here. */
  readonly names: ReadonlySet<string>;
  readonly executor: Executor;
  readonly side: Executor;
  readonly catalog: Pick<Catalog, "versions">;
  readonly waker: Pick<Waker, "wake">;
  readonly logger: Logger;
}

export class Intakes {
  readonly #options: IntakesOptions;
  #registered: readonly Registered[] = [];
  readonly #made: BegunIntake[] = [];

  constructor(options: IntakesOptions) {
    this.#options = options;
  }

  /** Once for each start. Errors: `ContractConflictError`; `withdraw` is for what was declared before it. */
  async declare(): Promise<void> {
    const registered: Registered[] = [];
    await this.#warnOfRepeats();
    for (const { declaration, refusals, noted } of this.#options.declared) {
      const known = await this.#know(declaration);
      const as = await this.#declare(declaration);
      this.#made.push(as);
      registered.push({ id: as.id, declaration, reader: new Reader(declaration, known, as.names), refusals, noted });
    }
    this.#registered = registered;
  }

  /** The start is refused: what it has made is not there. Never rejects. */
  async withdraw(): Promise<void> {
    const { side, logger } = this.#options;
    for (const one of this.#made.splice(0)) {
      await withdrawIntake(side, one).catch((error: unknown) =>
        logger.warn("an intake of a start that was refused stays registered", { error }),
      );
    }
  }

  /** Before they are declared, since then they are new no more. */
  async #warnOfRepeats(): Promise<void> {
    const { declared, names, side, logger } = this.#options;
    if (declared.length === 0) return;
    const known = await registeredIntakes(side);
    for (const { declaration } of declared) {
      for (const old of predecessors(declaration, names, known)) {
        const { name } = declaration;
        logger.warn(`the intake "${name}" ${predecessorInWords(old, name)}`, { intake: name, before: old.name });
      }
    }
  }

  #declare({ name, service, broker, contracts, keepMs, alerts }: IntakeDeclaration): Promise<BegunIntake> {
    const entry = {
      name,
      broker: broker.kind,
      place: broker.where,
      keepMs,
      awayMs: alerts.awayMs,
      bounds: { refused: alerts.refused, invalid: alerts.invalid },
      contracts: contracts.map((one) => ({ name: one.name, owner: one.owner ?? null })),
    };
    return beginIntake(this.#options.side, entry, service);
  }

  /** Those that were removed or renamed since, and no others: of two processes that declare one the newest start wins. */
  async #declareAnew(gone: readonly Registered[]): Promise<readonly Registered[]> {
    for (const one of gone) {
      const { id, names } = await this.#declare(one.declaration);
      const anew = { ...one, id, reader: one.reader.under(names) };
      this.#registered = this.#registered.map((known) => (known.id === one.id ? anew : known));
      const { name } = one.declaration;
      this.#options.logger.warn(
        `the intake "${name}" was removed or renamed, and is declared anew: this process is to run it`,
        { intake: name },
      );
    }
    return this.#registered;
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
      declareAnew: (gone) => this.#declareAnew(gone),
    });
    await keeper.begin(again);
    return keeper;
  }
}
