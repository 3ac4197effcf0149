/**
 * Holds the intakes of one registration of this process as a worker: asks each second which of them are to run here, runs those, and tells how they
 * stand. Others stand by, and take over what a worker held that has died. What is pushed to is run by all of them.
 */

import type { Executor } from "../core/database.js";
import { ConfigurationError, named } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { Loop } from "../core/loop.js";
import { holdIntakes, type IntakeAnswer } from "../store/intake.js";
import type { Noted } from "./noted.js";
import type { IntakeDeclaration } from "./options.js";
import type { Reader } from "./reading.js";
import { redrivePass } from "./redriving.js";
import type { Refusals } from "./refusals.js";
import { Run } from "./run.js";

/** An intake that is registered. */
export interface Registered {
  readonly id: number;
  readonly declaration: IntakeDeclaration;
  readonly reader: Reader;
  readonly refusals: Refusals;
  readonly noted: Noted;
}

export interface KeeperOptions {
  readonly worker: string;
  readonly registered: readonly Registered[];
  /** Writes messages. */
  readonly executor: Executor;
  /** For everything beside them. */
  readonly side: Executor;
  readonly logger: Logger;
  readonly onWritten: (channels: ReadonlySet<number>) => void;
  /** Declares what was removed meanwhile. Returns all that are registered then. */
  readonly declareAnew: (gone: readonly Registered[]) => Promise<readonly Registered[]>;
}

/** How often it asks: so soon another takes over what a dead worker held. */
const everyMs = 1_000;
/** How long the start waits for a broker that does not answer; then it goes on beside. */
const openMs = 5_000;

export class Keeper {
  readonly #options: KeeperOptions;
  #registered: readonly Registered[];
  readonly #runs = new Map<number, Run>();
  /** Runs that are ending: the next one of an intake begins after that, since a broker may take both for the same client. */
  readonly #ending = new Map<number, Promise<void>>();
  /** How much was refused before this worker began. */
  readonly #refusedBefore: ReadonlyMap<Refusals, number>;
  readonly #loop: Loop;
  #stopped = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#registered = options.registered;
    this.#refusedBefore = new Map(options.registered.map(({ refusals }) => [refusals, refusals.total]));
    this.#loop = new Loop({
      pass: () => this.#pass(),
      onError: (error) => this.#warn(error),
      pauseMs: { first: everyMs, longest: everyMs },
    });
  }

  /**
   * Takes what nobody runs, and opens it. A broker that is away is told, and no error.
   *
   * Errors: `ConfigurationError` of a broker, which names the intake, for what no later attempt mends; not where it is `again`, for then other work would
   * end with it. `ContractConflictError` of an intake that was removed and cannot be made anew. Whatever the database says.
   */
  async begin(again: boolean): Promise<void> {
    const opening: Promise<void>[] = [];
    const first = await this.#hold(true);
    for (const answer of (await this.#declareAnew(first)) ? await this.#hold(true) : first) {
      const run = this.#apply(answer);
      if (run !== undefined && !again) opening.push(run.open().catch((error) => this.#refuse(error, answer.id)));
    }
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, openMs);
    });
    const opened = Promise.all(opening);
    opened.catch(() => undefined);
    try {
      await Promise.race([opened, patience]);
    } catch (error) {
      if (error instanceof ConfigurationError) await this.stop();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #refuse(error: unknown, id: number): never {
    const one = this.#registered.find((registered) => registered.id === id);
    if (!(error instanceof ConfigurationError) || one === undefined) throw error;
    throw named(error, "intake", one.declaration.name);
  }

  start(): void {
    for (const run of this.#runs.values()) run.start();
    this.#loop.start();
  }

  /** Finishes what is being written, and lets all of them go, for others. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...[...this.#runs.values()].map((run) => run.stop()), ...this.#ending.values()]);
    await this.#loop.stop();
    for (const { refusals, noted } of this.#registered) {
      refusals.tellRest();
      noted.tellRest();
    }
    // Whoever looks next finds it free anyway once this worker is forgotten.
    await this.#hold(false).catch((error) => this.#warn(error));
  }

  /** The worker counts as dead, or its connection is gone. */
  async abandon(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...[...this.#runs.values()].map((run) => run.abandon()), ...this.#ending.values()]);
    await this.#loop.stop();
  }

  async #pass(): Promise<number> {
    const answers = await this.#hold(true);
    for (const answer of answers) {
      if (this.#stopped) break;
      this.#apply(answer)?.start();
      if (answer.held && answer.redrive) await this.#redrive(answer.id);
    }
    // The next pass asks for them.
    if (!this.#stopped) await this.#declareAnew(answers);
    return everyMs;
  }

  async #declareAnew(answers: readonly IntakeAnswer[]): Promise<boolean> {
    const gone = this.#registered.filter(({ id }) => answers.some((answer) => answer.id === id && answer.gone));
    if (gone.length > 0) this.#registered = await this.#options.declareAnew(gone);
    return gone.length > 0;
  }

  /** Beside the broker: also while that is away, or the intake is paused. */
  async #redrive(id: number): Promise<void> {
    const { worker, executor, logger, onWritten } = this.#options;
    const one = this.#registered.find((other) => other.id === id);
    if (one === undefined) return;
    const { reader, declaration, noted } = one;
    try {
      await redrivePass({
        name: declaration.name,
        reader,
        holding: { intake: id, worker },
        executor,
        logger,
        noted,
        onWritten,
      });
    } catch (error) {
      this.#warn(error);
    }
  }

  #hold(wants: boolean): Promise<readonly IntakeAnswer[]> {
    const { side, worker } = this.#options;
    const reports = this.#registered.map(({ id, declaration, refusals }) => {
      const run = this.#runs.get(id);
      const { kind: broker, where: place, features } = declaration.broker;
      const pushed = features.pushed === true;
      const refused = pushed ? { refused: refusals.report(this.#refusedBefore.get(refusals) ?? 0) } : {};
      const [connected, trouble] = [run?.connected ?? false, run?.trouble ?? null];
      return { id, wants, broker, place, connected, trouble, pushed, ...refused };
    });
    return holdIntakes(side, worker, reports);
  }

  /** Returns the run that is to begin. */
  #apply({ id, held, paused }: IntakeAnswer): Run | undefined {
    const run = this.#runs.get(id);
    const runs = held && !paused;
    if (run !== undefined && !runs) {
      this.#runs.delete(id);
      const ending = (held ? run.stop() : run.abandon())
        .catch((error) => this.#warn(error))
        .finally(() => this.#ending.delete(id));
      this.#ending.set(id, ending);
    }
    const one = this.#registered.find((registered) => registered.id === id);
    if (!runs || run !== undefined || one === undefined || this.#ending.has(id)) return undefined;
    const { worker, executor, logger, onWritten } = this.#options;
    const { declaration, reader, noted } = one;
    const made: Run = new Run({
      declaration,
      reader,
      executor,
      logger,
      noted,
      onWritten,
      holding: { intake: id, worker },
      onLost: () => {
        if (this.#runs.get(id) === made) this.#runs.delete(id);
      },
    });
    this.#runs.set(id, made);
    return made;
  }

  #warn(error: unknown): void {
    if (!this.#stopped) this.#options.logger.warn("looking after the intakes failed; it is tried again", { error });
  }
}
