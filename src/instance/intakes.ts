/** The intakes of an instance: what is declared, and which of them a start chooses. */
import { ConfigurationError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { suggestion } from "../core/suggest.js";
import { type DeclaredIntake, Intakes, type IntakesOptions } from "../intakes/intakes.js";
import { Noted } from "../intakes/noted.js";
import { checkIntake, type Intake, refuseShared } from "../intakes/options.js";
import { Refusals } from "../intakes/refusals.js";
import type { BrokerUse } from "./one-way.js";

export class DeclaredIntakes {
  readonly #declared = new Map<string, DeclaredIntake>();
  readonly #service: string;
  readonly #logger: Logger;

  constructor(service: string, logger: Logger) {
    this.#service = service;
    this.#logger = logger;
  }

  /** `refuse`: throws for a name that is taken, or too late. Errors: also for what another intake reads already. From here on it is told what its broker refuses, whether it is started or not. */
  declare(name: unknown, options: unknown, refuse: (name: string, twice: boolean) => void): Intake {
    const declaration = checkIntake(name, options, this.#service);
    refuse(declaration.name, this.#declared.has(declaration.name));
    refuseShared(
      declaration,
      [...this.#declared.values()].map((one) => one.declaration),
    );
    const { broker } = declaration;
    const telling = { name: declaration.name, where: broker.where, logger: this.#logger };
    const refusals = new Refusals(telling);
    broker.onRefused?.((refusal) => refusals.note(refusal));
    this.#declared.set(declaration.name, { declaration, refusals, noted: new Noted(telling) });
    return Object.freeze({ name: declaration.name });
  }

  get names(): ReadonlySet<string> {
    return new Set(this.#declared.keys());
  }

  get uses(): readonly BrokerUse[] {
    return [...this.#declared].map(([name, { declaration }]) => ({ way: "intake", name, broker: declaration.broker }));
  }

  /** All, or those named; an unknown name lists the known ones. */
  choose(names: readonly string[] | undefined): readonly DeclaredIntake[] {
    if (names === undefined) return [...this.#declared.values()];
    return names.map((name, i) => {
      const found = this.#declared.get(name);
      if (found !== undefined && names.indexOf(name) === i) return found;
      const message =
        found !== undefined
          ? `start() names "${name}" twice. Name it once.`
          : `start() names the intake "${name}", which is not declared.${suggestion(name, [...this.#declared.keys()])}`;
      throw new ConfigurationError("PH_OPTION_INVALID", message, { name });
    });
  }
}

/** Errors: `ContractConflictError`. */
export async function registerIntakes(options: IntakesOptions): Promise<Intakes> {
  const intakes = new Intakes(options);
  try {
    await intakes.declare();
  } catch (error) {
    await intakes.withdraw();
    throw error;
  }
  return intakes;
}
