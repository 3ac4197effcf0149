/** What follows from the end of a delivery: for the ledger, the circuit, those behind it of its key, and whoever waits for it in this process. */
import type { Batch } from "../producer/buffer.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";
import { type Circuit, eventOf } from "./circuit.js";
import type { Ledger } from "./ledger.js";
import type { Order } from "./order.js";
import type { ReaderOptions } from "./reading.js";
import { putAside, type Ran, released } from "./run.js";
import { tell } from "./tell.js";

/** What is told of them. */
export interface Told {
  readonly ledger: Ledger;
  readonly circuit: Circuit;
  /** Where order is kept per key. */
  readonly order: () => Order | undefined;
}

export class Outcomes {
  readonly #options: ReaderOptions;
  readonly #told: Told;
  readonly #endsThemselves: boolean;

  constructor(options: ReaderOptions, told: Told) {
    this.#options = options;
    this.#told = told;
    this.#endsThemselves = options.policy.idempotency === "transaction";
  }

  /** A run has ended so. `quiet`: the logger was told already, of several at once. */
  ran(delivery: Delivery, ran: Ran, quiet = false): void {
    const { circuit, order } = this.#told;
    if (this.#options.policy.circuitBreaker !== undefined || delivery.probe !== undefined) {
      circuit.ended(delivery, eventOf(ran));
    }
    this.#settle(delivery, ran, quiet);
    order()?.ran(delivery, ran);
  }

  #settle(delivery: Delivery, ran: Ran, quiet: boolean): void {
    const { ledger } = this.#told;
    switch (ran.kind) {
      case "succeeded":
        ledger.succeeded(delivery, ran.batch, ran.result);
        return;
      case "committed":
        ledger.endedElsewhere(delivery);
        this.#options.onSaid(ran.channels);
        return;
      case "lost":
        ledger.endedElsewhere(delivery);
        return;
      case "ended":
        ledger.ended(ran.end);
        tell(this.#options, ran, quiet);
    }
  }

  /** Those of a batch have succeeded, and what their handler said goes out with all of them. Throws where that cannot be. */
  together(deliveries: readonly Delivery[], batch: Batch): void {
    const { ledger, circuit } = this.#told;
    // One run has succeeded. The circuit is interested where it was the one that is tried, which runs alone.
    for (const delivery of deliveries) circuit.ended(delivery, { succeeded: true });
    ledger.succeededTogether(deliveries, batch);
  }

  /** Whoever waits for its end here looks at it soon. */
  near(delivery: Delivery, ran: Ran["kind"]): void {
    this.#options.asking.settlements.near(delivery, ran === "committed");
  }

  /** Hands back what was not begun, and what waits behind it. */
  release(delivery: Delivery): void {
    const { ledger, circuit, order } = this.#told;
    circuit.ended(delivery);
    ledger.ended(released(delivery, this.#endsThemselves));
    order()?.after(delivery, false);
  }

  /** No handler here. A command is handed back for a worker that has one; an event that no live worker listens to is skipped. */
  async unhandled(delivery: Delivery, broken: () => boolean): Promise<void> {
    const { kind, name, logger, attended } = this.#options;
    const skip = kind === "event" && !(await attended(delivery.contract));
    if (broken()) return;
    if (skip) {
      this.#skip(delivery);
      return;
    }
    const facts = { reader: name, message: publicId(delivery), contract: delivery.contract };
    logger.warn(`a message of "${name}" has no handler here; it waits for a worker that has one`, facts);
    this.release(delivery);
  }

  #skip(delivery: Delivery): void {
    const { ledger, circuit, order } = this.#told;
    circuit.ended(delivery);
    ledger.skipped(delivery);
    order()?.after(delivery, true);
  }

  /** It waits in the database, behind one of its key. */
  putAside(delivery: Delivery): void {
    this.#told.ledger.ended(putAside(delivery, this.#endsThemselves));
  }
}
