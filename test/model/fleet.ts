/** Workers of the queue: what they claim, take, end, lose. */
import { nothingSaid } from "../../src/producer/buffer.js";
import { messageStatus } from "../../src/store/status.js";
import {
  begin,
  type Delivery,
  type End,
  type Part,
  promote,
  settle,
  spill,
  takeDue,
  work,
} from "../../src/store/work.js";
import { Ledger } from "../../src/worker/ledger.js";
import { putAside } from "../../src/worker/run.js";
import { die, endInTransaction, failure, makeWorker, numberOf, rescueAll, startedAt } from "../sql/engine.js";
import { compare, Wrong } from "./checks.js";
import { consequence, endOf, type How } from "./ends.js";
import { bySince, type Said } from "./said.js";
import type { Stage } from "./stage.js";

/** A process that works: what it holds, as the worker's own ledger counts it. */
export interface Worker {
  readonly id: string;
  readonly ledger: Ledger;
  killed: boolean;
}

/** A delivery in the hands of a worker. */
export interface Hand {
  readonly said: Said;
  readonly delivery: Delivery;
  readonly worker: Worker;
  /** It had expired when it came. */
  readonly late: boolean;
  /** Somebody else holds it, or it has ended: nothing that this worker says of it may count. */
  stale: boolean;
}

const nothingToRefuse = new Error("nothing was sent");

export class Fleet {
  readonly workers: Worker[] = [];
  hands: Hand[] = [];
  readonly stale: Hand[] = [];
  /** How often each has succeeded. */
  readonly succeeded = new Map<Said, number>();
  readonly #stage: Stage;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  get #inTransactions(): boolean {
    return this.#stage.shape.idempotency === "transaction";
  }

  async hire(): Promise<Worker> {
    const id = await makeWorker(this.#stage.engine, [this.#stage.reader]);
    return { id, ledger: new Ledger(this.#inTransactions), killed: false };
  }

  /** Claims; with the claim go the parts of as many of its messages that have succeeded. */
  async claim(worker: Worker, limit: number, alongside: number, begins: number): Promise<void> {
    const { model } = this.#stage;
    const parts = this.#succeedSome(worker, alongside);
    const expected = model.claim(worker.id, limit);
    const claimed = await work(this.#stage.engine.db, this.#stage.reader.subscription, worker.id, limit, parts);
    if (claimed.missed) throw new Wrong("a claim that nobody disturbed was missed");
    compare("claimed", claimed.deliveries.map(idOf), expected.map(idOfSaid));
    worker.ledger.opened(claimed.deliveries, claimed);
    for (const [i, delivery] of claimed.deliveries.entries()) this.#receive(worker, delivery, expected[i]);
    if (this.#stage.shape.idempotency !== "at-most-once") return;
    const first = claimed.deliveries.slice(0, begins);
    const part = worker.ledger.begun(first);
    if (part === undefined || first.length === 0) return;
    await begin(this.#stage.engine.db, [part]);
    for (const said of expected.slice(0, begins)) said.begun = true;
  }

  #succeedSome(worker: Worker, count: number): readonly Part[] {
    if (this.#inTransactions) return [];
    for (let i = 0; i < count; i += 1) {
      const hand = this.hands.find(
        (one) => one.worker === worker && one.delivery.hold.from === "log" && !one.late && !this.isBehind(one),
      );
      if (hand === undefined) break;
      worker.ledger.succeeded(hand.delivery, nothingSaid);
      this.#endModel(hand, "succeed");
    }
    return worker.ledger.drain().parts;
  }

  #receive(worker: Worker, delivery: Delivery, said: Said | undefined): void {
    if (said === undefined) throw new Wrong(`${delivery.id} was delivered and should not have been`);
    compare("payload", numberOf(delivery), said.says);
    compare(
      `facts of ${said.says}`,
      [delivery.key, delivery.delivery, delivery.attempts, delivery.crashes],
      [said.key, said.delivery, said.attempts, said.crashes],
    );
    const late = delivery.expiresAt !== undefined && delivery.expiresAt <= performance.now();
    compare(`expiry of ${said.says}`, [delivery.expiresAt !== undefined, late], [said.expires, said.expired]);
    const reason = this.#stage.model.mayNotRun(said);
    if (reason !== undefined) throw new Wrong(`${said.says} was delivered although ${reason}`);
    if (this.hands.some((one) => one.said === said)) throw new Wrong(`${said.says} is in two hands`);
    this.hands.push({ said, delivery, worker, late, stale: false });
  }

  async take(worker: Worker, limit: number): Promise<void> {
    const { model } = this.#stage;
    model.enter();
    const held = this.hands.filter((one) => one.worker === worker).map(({ said }) => said);
    const { plain, suspects } = model.takeable(held);
    const { subscription, contract } = this.#stage.reader;
    const { deliveries } = await takeDue(this.#stage.engine.db, subscription, worker.id, [contract], limit);
    const asked = [...plain, ...suspects].filter((said) => said.asked);
    // What was asked to be cancelled is chosen and ends; more than the limit of others there cannot be.
    if (asked.length > 0) await this.#endAsked(asked);
    const got = deliveries.map((delivery) => {
      const said = [...plain, ...suspects].find((one) => one.id === BigInt(delivery.id));
      if (said === undefined) throw new Wrong(`${delivery.id} was taken and is not due`);
      return { delivery, said };
    });
    const wanted = Math.min(limit, plain.length);
    const withOne = plain.length < limit && !plain.some(({ crashes }) => crashes === 1) && suspects.length > 0 ? 1 : 0;
    if (asked.length === 0) compare("number of taken", got.length, wanted + withOne);
    if (asked.length === 0)
      this.#mostUrgent(
        plain,
        got.map(({ said }) => said),
      );
    for (const { delivery, said } of got) {
      model.chosen(said);
      this.#receive(worker, delivery, said);
    }
    // What had to wait for a claim with its key is due again in a moment: now, so that no test waits.
    if (model.ordered) {
      await this.#stage.rows(
        `update posthorn.deferred set due_at = due_at - interval '20 ms' where subscription = $1 and token is null and place is null
          and due_at > clock_timestamp() - interval '20 ms' and due_at < clock_timestamp() + interval '10 s'`,
      );
    }
  }

  /** Which of them the take has chosen is read back: they are cancelled, or wait as before. */
  async #endAsked(asked: readonly Said[]): Promise<void> {
    for (const said of [...asked].sort(bySince)) {
      if ((await messageStatus(this.#stage.engine.db, said.publicId))?.[0]?.state === "cancelled")
        this.#stage.model.chosen(said);
    }
  }

  #mostUrgent(plain: readonly Said[], got: readonly Said[]): void {
    const left = plain.filter((said) => !got.includes(said));
    const lowest = Math.min(...got.filter((said) => plain.includes(said)).map(({ priority }) => priority));
    const passed = left.find(({ priority }) => priority > lowest);
    if (passed !== undefined) throw new Wrong(`${passed.says} is more urgent than what was taken`);
  }

  /** In its claim, another message of its key is before it. */
  isBehind(hand: Hand): boolean {
    return this.#stage.model.ordered && this.#ofKey(hand)[0] !== hand;
  }

  #ofKey({ said, delivery, worker }: Hand): readonly Hand[] {
    if (delivery.hold.from !== "log") return this.hands.filter((one) => one.delivery === delivery);
    const { claim } = delivery.hold;
    return this.hands.filter(({ delivery: other, ...one }) => {
      return (
        one.worker === worker && one.said.key === said.key && other.hold.from === "log" && other.hold.claim === claim
      );
    });
  }

  /** The run of a delivery ends so. `forget`: the worker does not come to making the next of the key due. */
  async end(hand: Hand, asked: How, forget: boolean): Promise<void> {
    const how = hand.late ? "expire" : asked;
    if (hand.stale) return this.#endStale(hand, how);
    if (this.isBehind(hand)) return;
    const { said, delivery, worker } = hand;
    const rest = !this.#stage.model.ordered || this.#goesOn(how) ? [] : this.#ofKey(hand).slice(1);
    const ends = this.#inTransactions;
    if (how === "succeed" && ends) {
      await this.#endInTransaction(hand);
      worker.ledger.endedElsewhere(delivery);
    } else if (how === "succeed") worker.ledger.succeeded(delivery, nothingSaid);
    else worker.ledger.ended(endOf(hand, how, this.#inTransactions));
    for (const one of rest) worker.ledger.ended(putAside(one.delivery, ends));
    const { parts, ends: all } = worker.ledger.drain();
    if (parts.length + all.length > 0) await settle(this.#stage.engine.db, parts, all, null);
    const taken = delivery.hold.from === "deferred";
    this.#endModel(hand, how);
    for (const one of rest) this.#endModel(one, "put aside");
    if (taken && this.#stage.model.ordered && said.key !== null && !forget) {
      await promote(this.#stage.engine.db, this.#stage.reader.subscription, [said.key]);
      this.#stage.model.promote(said.key);
    }
  }

  #goesOn(how: How): boolean {
    if (how === "succeed" || how === "expire") return true;
    return this.#stage.shape.ordering === "skip" && (how === "reject" || how === "invalid");
  }

  async #endInTransaction({ delivery, said }: Hand): Promise<void> {
    const session = this.#stage.sessions[2];
    if (session === undefined) throw new Error("no session for handlers");
    await session.rows("begin");
    await session.rows("insert into effect (id) values ($1)", [String(said.id)]);
    try {
      await endInTransaction(session, delivery, await startedAt(session), null);
      await session.rows("commit");
    } catch (error) {
      await session.rows("rollback");
      throw error;
    }
  }

  #endModel(hand: Hand, how: How | "put aside"): void {
    const { said, delivery } = hand;
    this.hands = this.hands.filter((one) => one !== hand);
    // A second end of the same delivery must be refused, but for one of an open claim, which its worker alone keeps from it.
    if (delivery.hold.from === "deferred" || this.#inTransactions) {
      hand.stale = true;
      this.stale.push(hand);
    }
    if (how === "succeed") this.succeeded.set(said, (this.succeeded.get(said) ?? 0) + 1);
    const { outcome, next, attempts } = consequence(said, how);
    if (next === "dead") said.attempts = attempts;
    this.#stage.model.end(said, outcome, next);
  }

  /** Somebody who holds it no more says that it ended. */
  async #endStale(hand: Hand, how: How): Promise<void> {
    const { delivery, worker } = hand;
    const { ledger } = worker;
    const refused = await failure(
      (async () => {
        if (this.#inTransactions && how === "succeed") return this.#endInTransaction(hand);
        if (delivery.hold.from === "deferred" || this.#inTransactions) {
          const end: End =
            how === "succeed"
              ? { delivery, outcome: "succeeded", next: null, ends: false }
              : endOf(hand, how, this.#inTransactions);
          return settle(this.#stage.engine.db, [], [end], null);
        }
        if (how === "succeed") ledger.succeeded(delivery, nothingSaid);
        else ledger.ended(endOf(hand, how, this.#inTransactions));
        const { parts, ends } = ledger.drain();
        // It has forgotten a claim that it closed: a second end of the same hand says nothing to the server, which can refuse nothing.
        if (parts.length === 0 && ends.length === 0) throw nothingToRefuse;
        return settle(this.#stage.engine.db, parts, ends, null);
      })(),
    );
    if (refused === nothingToRefuse) return;
    if (!("code" in refused) || refused.code !== "PH_CLAIM_LOST")
      throw new Wrong(`a stale end of ${hand.said.says} was not refused as lost, but: ${String(refused)}`);
  }

  /** A claim is open for too long. `mask` says which of the first of their keys run. */
  async spill(hand: Hand, mask: number): Promise<void> {
    const { hold } = hand.delivery;
    if (!this.#stage.model.ordered || hold.from !== "log") return;
    const ofClaim = this.hands.filter(
      ({ delivery }) => delivery.hold.from === "log" && delivery.hold.claim === hold.claim,
    );
    const firsts = ofClaim.filter((one) => !this.isBehind(one));
    const running = firsts.filter((_, i) => ((mask >> i) & 1) === 1);
    const waiting = [
      ...firsts.filter((one) => !running.includes(one)),
      ...ofClaim.filter((one) => !firsts.includes(one)),
    ];
    const head = hand.worker.ledger.spilled(hold.claim, ofClaim.length);
    if (head === undefined) throw new Wrong("the ledger does not know the claim");
    const ids = (hands: readonly Hand[]) => hands.map(({ delivery }) => delivery.id);
    const what = { ...head, worker: hand.worker.id, running: ids(running), waiting: ids(waiting) };
    const holds = await spill(this.#stage.engine.db, [], what);
    for (const { delivery } of running) delivery.hold = holds.get(delivery.id) ?? delivery.hold;
    this.#stage.model.spill(
      running.map(({ said }) => said),
      waiting.map(({ said }) => said),
    );
    this.hands = this.hands.filter((one) => !waiting.includes(one));
    // Their first hold is worth nothing, also where each message ends by itself. Elsewhere the claim says so, and the ledger asks nobody.
    if (this.#inTransactions) this.stale.push(...waiting.map((one) => ({ ...one, stale: true })));
  }

  async kill(worker: Worker): Promise<void> {
    await die(this.#stage.engine, worker.id);
    worker.killed = true;
  }

  async rescue(): Promise<void> {
    await rescueAll(this.#stage.engine.db);
    for (const [i, worker] of this.workers.entries()) {
      if (!worker.killed) continue;
      const held = this.hands.filter((one) => one.worker === worker);
      this.#stage.model.rescue(
        worker.id,
        held.map(({ said }) => said),
      );
      for (const hand of held) hand.stale = true;
      this.stale.push(...held);
      this.hands = this.hands.filter((one) => !held.includes(one));
      const refused = await failure(
        takeDue(this.#stage.engine.db, this.#stage.reader.subscription, worker.id, [this.#stage.reader.contract], 1),
      );
      compare("a take by a worker that was rescued", refused.code, "PH_WORKER_FORGOTTEN");
      this.workers[i] = await this.hire();
    }
  }
}

function idOf({ id }: Delivery): string {
  return id;
}

function idOfSaid({ id }: Said): string {
  return String(id);
}
