/**
 * Messages that are carried on many at a time, as a relay does it: one call for many, an outcome for each. What becomes of a message is what would of a
 * run of its own; what can be shared costs once for all of a call: the promise, the settling, the look at what comes next.
 *
 * If the process dies anywhere in here the messages have no end, and a rescuer gives them one.
 */
import { composed } from "../core/composed.js";
import { errorOf } from "../core/errors.js";
import { openingFor } from "../policies/verdicts.js";
import { nothingSaid } from "../producer/buffer.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";
import { withoutCircuit } from "./batch-run.js";
import type { Carried, Carrier } from "./carrier.js";
import { Outage } from "./outage.js";
import type { Outcomes } from "./outcomes.js";
import { expired, type Handled, hasExpired, type Ran, Run, type Running, released } from "./run.js";

export interface CarryingOptions {
  readonly running: Running;
  readonly carrier: Carrier;
  readonly outcomes: Outcomes;
  /** Nothing is to be written any more. */
  readonly broken: () => boolean;
  /** Some have ended, and their places are free. */
  readonly onEnded: (ended: readonly Delivery[]) => void;
}

class Item implements Carried {
  readonly handled: Handled;
  readonly delivery: Delivery;
  /** As of a run: settles when the delivery has been moved out of its claim. */
  moving: Promise<void> | undefined;
  cancelled = false;

  constructor(handled: Handled, delivery: Delivery) {
    this.handled = handled;
    this.delivery = delivery;
  }

  get id(): string {
    return publicId(this.delivery);
  }

  get contract(): Handled["contract"] {
    return this.handled.contract;
  }

  /** Its end goes with those of others, and never by itself. */
  get ending(): boolean {
    return false;
  }
}

/** The messages of one call. */
class Load {
  readonly items: readonly Item[];
  readonly startedAt = Date.now();
  readonly begunAt = performance.now();
  /** Somebody has decided what becomes of them. */
  decided = false;

  constructor(items: readonly Item[]) {
    this.items = items;
  }

  get moving(): Promise<void> | undefined {
    return this.items.find(({ moving }) => moving !== undefined)?.moving;
  }
}

/** Undefined where it succeeded. */
type RanOf = (item: Item, i: number, load: Load) => Ran | undefined;

export class Carrying {
  readonly #options: CarryingOptions;
  readonly #loads = new Set<Load>();
  readonly #outage: Outage;
  /** What goes at the end of this turn of the event loop, or when there is room. */
  #waiting: Item[] = [];
  /** Of all messages those that were handed over. */
  #gone = 0;
  /** There was no room for all that waited. */
  #full = false;
  #size = 0;

  constructor(options: CarryingOptions) {
    this.#options = options;
    this.#outage = new Outage(options.running);
  }

  /** Messages on their way. */
  get size(): number {
    return this.#size;
  }

  *[Symbol.iterator](): Generator<Item, void, undefined> {
    for (const { items } of this.#loads) yield* items;
    yield* this.#waiting;
  }

  add(handled: Handled, delivery: Delivery): void {
    if (this.#waiting.length === 0) setImmediate(() => this.#go());
    this.#waiting.push(new Item(handled, delivery));
    this.#size += 1;
  }

  /** Somebody asked to cancel a message. It is not called back; when it fails, it ends as cancelled. */
  cancel(message: string): void {
    for (const item of this) if (item.delivery.id === message) item.cancelled = true;
  }

  /** Ends all without blame: they are handed back. What waits here was not begun, whatever was promised of it; at most once the rest may not come back. */
  release(reason: Error): void {
    this.#endAll(
      (item, _, load) => {
        const run = this.#runOf(item, load);
        run.release(reason);
        return run.failed(reason, false, false);
      },
      ({ delivery }) => ({ kind: "ended", end: released(delivery, false) }),
    );
  }

  /** Drops all: they are others' now. */
  abort(): void {
    const lost: RanOf = () => ({ kind: "lost" });
    this.#endAll(lost, lost);
  }

  #endAll(gone: RanOf, waits: RanOf): void {
    for (const load of [...this.#loads]) void this.#end(load, gone);
    const waiting = this.#waiting;
    this.#waiting = [];
    if (waiting.length > 0) void this.#end(this.#load(waiting), waits);
  }

  #load(items: readonly Item[]): Load {
    const load = new Load(items);
    this.#loads.add(load);
    this.#gone += items.length;
    return load;
  }

  #go(): void {
    const items = this.#waiting;
    const late = items.filter(({ delivery }) => hasExpired(delivery));
    const fresh = late.length === 0 ? items : items.filter((item) => !late.includes(item));
    this.#waiting = fresh;
    if (late.length > 0) {
      const ends = (item: Item): Ran => ({ kind: "ended", end: expired(item.delivery, false) });
      void this.#end(this.#load(late), ends);
    }
    const { size, most } = this.#options.carrier;
    while (this.#waiting.length > 0 && this.#gone < most) {
      void this.#carry(this.#load(this.#waiting.splice(0, Math.min(size, most - this.#gone))));
    }
    this.#full = this.#waiting.length > 0;
  }

  async #carry(load: Load): Promise<void> {
    const { carrier, running } = this.#options;
    try {
      const errors = await carrier.call(load.items);
      // Of one that is not spoken of nobody knows that it succeeded.
      const unsaid = composed(errorOf("PH_INTERNAL", `"${running.name}" did not say what became of it.`));
      const away = await this.#end(load, (item, i) => {
        const error = errors[i];
        return error === null ? undefined : this.#failed(item, load, error ?? unsaid);
      });
      if (away !== undefined) {
        const reason = errors[away]?.message;
        await this.#putOff(reason);
        this.#outage.tell(reason);
      }
    } catch (error) {
      await this.#end(load, (item) => this.#failed(item, load, error));
    }
    if (this.#full) this.#go();
  }

  /** The other side is away: what waits here is not tried, and waits with the others. */
  async #putOff(reason: string | undefined): Promise<void> {
    if (!this.#full) return;
    const away = openingFor({ unsent: true }, reason);
    const load = this.#load(this.#waiting);
    this.#waiting = [];
    await this.#end(load, (item) => this.#failed(item, load, away), true);
  }

  /**
   * All outcomes of a call in one step, so that one statement settles them. The first decision counts. Resolves with the place of the first message
   * that has opened the circuit. `said`: that the other side is away was said already.
   */
  async #end(load: Load, ranOf: RanOf, said = false): Promise<number | undefined> {
    if (load.decided) return undefined;
    load.decided = true;
    for (let { moving } = load; moving !== undefined; { moving } = load) await moving;
    const { broken, outcomes, onEnded } = this.#options;
    this.#loads.delete(load);
    this.#size -= load.items.length;
    this.#gone -= load.items.length;
    const succeeded: Delivery[] = [];
    let opened: number | undefined;
    for (const [i, item] of load.items.entries()) {
      const ran = ranOf(item, i, load);
      if (ran === undefined) {
        succeeded.push(item.delivery);
        continue;
      }
      // That the other side is away is said once for all of them, to the circuit and to the log.
      const away = ran.kind === "ended" && ran.circuit !== undefined && "open" in ran.circuit;
      if (!broken()) outcomes.ran(item.delivery, said || opened !== undefined ? withoutCircuit(ran) : ran, away);
      if (away) this.#outage.putOff(ran);
      if (away) opened ??= i;
    }
    if (succeeded.length > 0 && !broken()) outcomes.together(succeeded, nothingSaid);
    if (succeeded.length > 0 && opened === undefined) this.#outage.succeeded(load.begunAt);
    const ended = load.items.map(({ delivery }) => delivery);
    for (const one of ended) outcomes.near(one, "ended");
    onEnded(ended);
    return opened;
  }

  #failed(item: Item, load: Load, error: unknown): Ran {
    return this.#runOf(item, load).failed(error, true, false);
  }

  /** What decides about its end, where that is more than a success. */
  #runOf({ handled, delivery, cancelled }: Item, { startedAt }: Load): Run {
    const run = new Run(this.#options.running, handled, delivery, startedAt);
    if (cancelled) run.cancel();
    return run;
  }
}
