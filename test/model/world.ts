/** The engine beside its model: each act is done to both, and what the database answers is compared with what the model allows. */
import { cancelMessage } from "../../src/store/cancel.js";
import { sweepKeys, tidyDedupe } from "../../src/store/fleet.js";
import { discard, redrive } from "../../src/store/operate.js";
import { prune } from "../../src/store/results.js";
import type { Engine, Session } from "../sql/engine.js";
import { check, checkEffects, checkEnd, compare, Wrong } from "./checks.js";
import { Fleet } from "./fleet.js";
import { Producer } from "./producer.js";
import type { Reference } from "./reference.js";
import { bySince, type Said, type Shape } from "./said.js";
import { makeStage, type Stage } from "./stage.js";

export class World {
  readonly stage: Stage;
  readonly producer: Producer;
  readonly fleet: Fleet;
  readonly #looked = new Map<Said, string>();

  private constructor(stage: Stage) {
    this.stage = stage;
    this.producer = new Producer(stage);
    this.fleet = new Fleet(stage);
  }

  /** A queue of its own with two workers. */
  static async open(engine: Engine, name: string, shape: Shape, sessions: readonly Session[]): Promise<World> {
    const world = new World(await makeStage(engine, name, shape, sessions));
    for (let i = 0; i < 2; i += 1) world.fleet.workers.push(await world.fleet.hire());
    return world;
  }

  get model(): Reference {
    return this.stage.model;
  }

  async operate(
    verb: "redrive" | "discard",
    saids: readonly Said[],
    list: "dead-letters" | "invalid",
    one: boolean,
  ): Promise<void> {
    const filter = one ? { list, message: saids[0]?.publicId ?? "" } : { list, subscription: this.stage.name };
    const { db } = this.stage.engine;
    const done =
      verb === "redrive" ? await redrive(db, filter, "test", 100) : await discard(db, filter, "test", "test", 100);
    compare(
      verb,
      done.map(({ message }) => message),
      saids.map((said) => said.publicId),
    );
    for (const said of saids) this.model[verb](said);
  }

  async cancel(said: Said): Promise<void> {
    const answer = await cancelMessage(this.stage.engine.db, said.publicId, "test");
    compare(`cancel of ${said.says}`, answer, this.model.cancel(said));
  }

  async promoteLost(): Promise<void> {
    await sweepKeys(this.stage.engine.db, 10_000);
    this.model.sweep();
  }

  async tidy(): Promise<void> {
    await tidyDedupe(this.stage.engine.db, 10_000);
    this.model.tidy();
  }

  async prune(): Promise<void> {
    await prune(this.stage.engine.db, 0, 1_000);
    this.model.prune();
  }

  async pass(said: Said): Promise<void> {
    if (said.at !== "waiting" || said.due !== "later") return;
    await this.stage.rows(
      "update posthorn.deferred set due_at = clock_timestamp() where subscription = $1 and message = $2",
      [said.id],
    );
    this.model.pass(said);
  }

  async expire(said: Said): Promise<void> {
    await this.stage.engine.admin.rows("update posthorn.message_1 set expires_at = clock_timestamp() where id = $1", [
      String(said.id),
    ]);
    await this.stage.rows(
      `update posthorn.deferred set expires_at = clock_timestamp(), due_at = case when place is not null and due_at = 'infinity' then due_at
        else least(due_at, clock_timestamp()) end where subscription = $1 and message = $2`,
      [said.id],
    );
    this.model.expire(said);
  }

  async endWindow(key: string): Promise<void> {
    const sql =
      "update posthorn.dedupe set until = clock_timestamp(), look_at = clock_timestamp() where subscription = $1 and key = $2";
    await this.stage.rows(sql, [`${this.stage.name}-${key}`]);
    this.model.requests.pass(key);
  }

  check(): Promise<void> {
    return check(this.stage, this.#looked, false);
  }

  /** Everything is brought to its end; then nothing may be left. */
  async drain(): Promise<void> {
    for (const slot of this.producer.open) await this.producer.close(slot, true);
    await this.fleet.rescue();
    for (let round = 0; await this.#drainOnce(round); round += 1) {
      if (round === 60)
        throw new Wrong(
          `it does not come to its end: ${JSON.stringify(this.model.all.map((said) => [said.says, said.state]))}`,
        );
    }
    await check(this.stage, this.#looked, true);
    await checkEnd(this.stage, this.fleet.succeeded);
    if (this.stage.shape.idempotency === "transaction") await checkEffects(this.stage);
  }

  /** True as long as there was something. */
  async #drainOnce(round: number): Promise<boolean> {
    const { model } = this;
    const worker = this.fleet.workers[round % 2];
    if (worker === undefined) return false;
    for (const said of model.all) await this.pass(said);
    await this.promoteLost();
    await this.tidy();
    await this.prune();
    await this.fleet.claim(worker, 100, 0, 0);
    await this.fleet.take(worker, 100);
    const some = this.fleet.hands.length > 0;
    for (const hand of [...this.fleet.hands]) await this.fleet.end(hand, "succeed", false);
    const dead = model.all.filter(({ at }) => at === "dead" || at === "invalid");
    for (const said of dead.sort(bySince)) {
      await this.operate("redrive", [said], said.at === "dead" ? "dead-letters" : "invalid", true);
    }
    return (
      some ||
      dead.length > 0 ||
      model.all.some((said) => said.at === "log" || said.isLive) ||
      model.parked.size > 0 ||
      model.all.some(({ marked }) => marked)
    );
  }

  /** Takes away what a failed run has left, so that it disturbs no other. */
  async remove(): Promise<void> {
    for (const slot of this.producer.open) await this.producer.close(slot, false);
    for (const session of this.stage.sessions) await session.rows("rollback");
    for (const table of [
      "deferred",
      "parked_key",
      "dedupe",
      "dead_letter",
      "invalid",
      "cancel_mark",
      "cancel_request",
    ]) {
      await this.stage.rows(`delete from posthorn.${table} where subscription = $1`);
    }
    await this.stage.engine.admin.rows("delete from posthorn.worker where id = any ($1::bigint[])", [
      this.fleet.workers.map(({ id }) => id),
    ]);
  }
}
