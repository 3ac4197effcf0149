/** What runs of one reader: each message by itself, or carried on with others. */
import { Roster } from "../core/roster.js";
import type { Delivery } from "../store/work.js";
import { Carrying } from "./carrying.js";
import type { Held } from "./order.js";
import type { Outcomes } from "./outcomes.js";
import type { ReaderOptions } from "./reading.js";
import { type Handled, type Ran, Run } from "./run.js";
import type { Slots } from "./slots.js";

export interface RunsOptions {
  readonly reader: ReaderOptions;
  /** In transaction mode. */
  readonly slots: Slots | undefined;
  readonly outcomes: Outcomes;
  /** Nothing is to be written any more. */
  readonly broken: () => boolean;
  /** One has ended, or several together. Shared slots are not given back yet. */
  readonly onEnded: (ended: readonly Delivery[]) => void;
}

export class Runs implements Iterable<Held> {
  readonly #options: RunsOptions;
  readonly #alone = new Roster<Run>();
  readonly #carried: Carrying | undefined;

  constructor(options: RunsOptions) {
    this.#options = options;
    const { reader, outcomes, broken, onEnded } = options;
    const { carrier } = reader;
    if (carrier !== undefined) this.#carried = new Carrying({ running: reader, carrier, outcomes, broken, onEnded });
  }

  get size(): number {
    return this.#alone.size + (this.#carried?.size ?? 0);
  }

  *[Symbol.iterator](): Generator<Held, void, undefined> {
    yield* this.#alone;
    if (this.#carried !== undefined) yield* this.#carried;
  }

  start(handled: Handled, delivery: Delivery): void {
    if (this.#carried !== undefined) this.#carried.add(handled, delivery);
    else this.#run(new Run(this.#options.reader, handled, delivery));
  }

  /** Ends them without blame: they are handed back. */
  release(reason: Error): void {
    for (const run of this.#alone) run.release(reason);
    this.#carried?.release(reason);
  }

  /** Ends them; they are others' now. */
  abort(reason: Error): void {
    for (const run of this.#alone) run.abort(reason);
    this.#carried?.abort();
  }

  /** Somebody asked to cancel a message; its run may be here. */
  cancel(message: string): void {
    for (const run of this.#alone) if (run.delivery.id === message) run.cancel();
    this.#carried?.cancel(message);
  }

  #run(run: Run): void {
    const { slots } = this.#options;
    const at = this.#alone.add(run);
    slots?.take(1);
    const begun = performance.now();
    run.execute((ran) => {
      slots?.took(performance.now() - begun);
      if (run.moving === undefined) this.#finished(at, run, ran);
      else void run.moving.then(() => this.#finished(at, run, ran));
    });
  }

  #finished(at: number, run: Run, ran: Ran): void {
    const { reader, outcomes, broken, onEnded } = this.#options;
    this.#alone.remove(at, run);
    if (run.told) reader.progress.ended(run.delivery);
    if (!broken()) outcomes.ran(run.delivery, ran);
    outcomes.near(run.delivery, ran.kind);
    onEnded([run.delivery]);
  }
}
