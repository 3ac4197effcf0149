/** What follows from the end of a delivery: for the ledger, the circuit, those behind it of its key, and whoever waits for it in this process. */
import type { Batch } from "../producer/buffer.js";
import type { Standing } from "../store/fleet.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";
import { type Circuit, eventOf, saidBy } from "./circuit.js";
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
  readonly #asked = new Map<number, Promise<Standing>>();
  /** Contracts of which it was told that they have no handler here. */
  readonly #warned = new Set<number>();

  constructor(options: ReaderOptions, told: Told) {
    this.#options = options;
    this.#told = told;
    this.#endsThemselves = options.policy.idempotency === "transaction";
  }

  /** A run has ended so. `quiet`: the logger was told already, of several at once. */
  ran(delivery: Delivery, ran: Ran, quiet = false): void {
    const { circuit, order } = this.#told;
    if (this.#options.policy.circuitBreaker !== undefined || delivery.probe !== undefined) {
      const relayed = this.#options.policy.relay !== undefined;
      circuit.ended(delivery, eventOf(ran), delivery.probe === undefined ? undefined : saidBy(ran, relayed));
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
    const { ledger, circuit, order } = this.#told;
    // One run has succeeded. The circuit is interested where it was the one that is tried, which runs alone.
    for (const delivery of deliveries) circuit.ended(delivery, { succeeded: true });
    ledger.succeededTogether(deliveries, batch);
    for (const delivery of deliveries) order()?.after(delivery, true);
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

  /**
   * No handler here. A message that another worker may know, now or when it is deployed, is handed back. An event that no living worker listens to
   * is skipped. What is older than anybody reads is invalid, and can be redriven once somebody does. True where it has a handler now: one that takes
   * everything had not met its contract.
   */
  async unhandled(delivery: Delivery, broken: () => boolean): Promise<boolean> {
    const { handlers } = this.#options;
    const known = await this.#standingOf(delivery.contract);
    if (broken()) return false;
    if (handlers.learn?.(delivery.contract, known) === true) return true;
    this.#withoutHandler(delivery, known);
    return false;
  }

  #withoutHandler(delivery: Delivery, known: Standing): void {
    const { name, logger } = this.#options;
    if (known.what === "skip") {
      this.#skip(delivery);
      return;
    }
    if (known.what === "unreadable") {
      const { name: contract, version, reads } = known;
      const message = `no worker reads version ${version} of ${contract} any more; the oldest that is read is ${reads}`;
      const next = { invalid: [{ path: "", message }] };
      this.ran(delivery, { kind: "ended", end: { delivery, outcome: "invalid", next, ends: this.#endsThemselves } });
      return;
    }
    // Once for each contract: in a deployment there may be thousands, and an alert tells when it lasts.
    if (!this.#warned.has(delivery.contract)) {
      this.#warned.add(delivery.contract);
      const facts = { reader: name, message: publicId(delivery), contract: known.name, version: known.version };
      const what = `${known.name} version ${known.version}`;
      const message = `a message of "${name}" has no handler here; like others after it, it waits for a worker that has one for ${what}`;
      logger.warn(message, facts);
    }
    this.release(delivery);
  }

  /**
   * One question for all that arrived together. Never an answer from before a message was claimed: a worker that has a handler may have come since, and
   * its event must not be skipped.
   */
  #standingOf(contract: number): Promise<Standing> {
    let asked = this.#asked.get(contract);
    if (asked === undefined) {
      asked = this.#options.standing(contract);
      this.#asked.set(contract, asked);
      setImmediate(() => this.#asked.delete(contract));
    }
    return asked;
  }

  #skip(delivery: Delivery): void {
    const { ledger, circuit, order } = this.#told;
    circuit.ended(delivery);
    ledger.skipped(delivery);
    const { skipped } = this.#options;
    skipped.set(delivery.contract, (skipped.get(delivery.contract) ?? 0) + 1);
    order()?.after(delivery, true);
  }

  /** It waits in the database, behind one of its key. */
  putAside(delivery: Delivery): void {
    this.#told.ledger.ended(putAside(delivery, this.#endsThemselves));
  }
}
