/**
 * Goal: two services with a database each, joined by a broker: whatever is killed, the effect of each order is there exactly once and in the order of its
 * key at the far end, and so is what comes back.
 * Method: orders are placed all the while. Each service lives many short lives: it kills itself at each step between log and broker, or is killed from
 * outside at any moment; the broker is killed as well, where it keeps what it has acknowledged. Then all is left alone, and the tables are looked at.
 * Needs test/brokers/fixtures/service.ts. POSTHORN_TEST_SEED repeats the choices.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { Client } from "pg";
import { type Post, posthorn, type Sql } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { makeRandom, type Random, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import type { Service } from "../support/services.js";
import {
  intakeSteps,
  type Life,
  type Order,
  OrderPlaced,
  relaySteps,
  type Step,
  tables,
  type Way,
} from "./fixtures/trade.js";

export interface Joining {
  /** "NATS JetStream" */
  readonly name: string;
  readonly service: () => Promise<Service>;
  /** How a destination is written to and read from. */
  readonly way: (url: string, destination: string) => Way;
  /** Makes a destination, where the broker does not do it by itself. */
  readonly prepare?: (url: string, destination: string) => Promise<void>;
  /** How often the broker dies, where that loses nothing. Default 2; fewer for one that is slow to start. */
  readonly deaths?: number;
  /** Dies at each step on the way in each run, and not at some of them. */
  readonly everyStep?: boolean;
}

type Side = Life["side"];
/** How a life ends. */
type End = Step | "killed";

const customers = 16;
/** No more are placed while so many are on their way: what is placed has to arrive. */
const mostOnTheirWay = 150;
const patience = { withinMs: 180_000, everyMs: 50 };

export function twoServices(joining: Joining): void {
  const what = `two services joined by ${joining.name}: whatever is killed, each effect is there once and in the order of its key`;
  test(what, { timeout: 300_000 }, async () => {
    const seed = seedOf(joining.name);
    const play = await Play.open(joining, seed);
    onTestFinished(() => play.close());
    try {
      await play.run();
    } catch (error) {
      throw new Error(`POSTHORN_TEST_SEED=${seed}: ${play.told}`, { cause: error });
    }
  });
}

class Play {
  readonly #joining: Joining;
  /** One for each of those who choose at the same time, so that the seed repeats what each of them does. */
  readonly #dice: Readonly<Record<Side | "broker" | "orders", Random>>;
  readonly #service: Service;
  readonly #sides: Readonly<Record<Side, Place>>;
  readonly #shop: Post<Sql>;
  readonly #placed: number[] = Array.from({ length: customers }, () => 0);
  #deaths = 0;
  #brokerDeaths = 0;

  private constructor(joining: Joining, seed: number, service: Service, sides: Readonly<Record<Side, Place>>) {
    const dice = (n: number) => makeRandom(seed + n);
    this.#dice = { shop: dice(0), shipping: dice(1), broker: dice(2), orders: dice(3) };
    this.#joining = joining;
    this.#service = service;
    this.#sides = sides;
    const { url } = sides.shop;
    this.#shop = posthorn({ service: "shop", database: url, migrate: "check", logger: silentLogger }) as Post<Sql>;
  }

  static async open(joining: Joining, seed: number): Promise<Play> {
    const [service, shop, shipping] = await Promise.all([joining.service(), Place.open(), Place.open()]);
    const names = [`orders${randomBytes(6).toString("hex")}`, `shipments${randomBytes(6).toString("hex")}`] as const;
    for (const name of names) await joining.prepare?.(service.url, name);
    await service.settled?.();
    const [there, back] = [joining.way(service.url, names[0]), joining.way(service.url, names[1])];
    shop.is({ side: "shop", to: there, from: back });
    shipping.is({ side: "shipping", to: back, from: there });
    return new Play(joining, seed, service, { shop, shipping });
  }

  async run(): Promise<void> {
    const { shop, shipping } = this.#sides;
    const ends = this.#ends();
    await Promise.all([
      shop.begin(this.#life("shop", ends.shop[0])),
      shipping.begin(this.#life("shipping", ends.shipping[0])),
    ]);
    let over = false;
    const torment = Promise.all([
      this.#lives("shop", ends.shop),
      this.#lives("shipping", ends.shipping),
      this.#broker(),
    ]);
    const stop = () => {
      over = true;
    };
    await Promise.all([torment.finally(stop), this.#place(() => over)]);
    // Whatever was before these has arrived when they have.
    for (let customer = 0; customer < customers; customer += 1) await this.#order([customer]);
    await this.#arrived();
    await this.#check();
    for (const { process } of [shop, shipping]) {
      process.say("stop");
      expect(await process.exited, process.errorOutput.slice(-2_000)).toEqual({ code: 0, signal: null });
    }
  }

  /**
   * Each kills itself at steps of its own on the way there, and dies once elsewhere. Before the acknowledgement always, so that something comes twice. What
   * is held at five deaths would be put aside for having killed five.
   */
  #ends(): Readonly<Record<Side, readonly End[]>> {
    const [two, one] = this.#joining.everyStep ? [3, 2] : [2, 1];
    const { shop, shipping } = this.#dice;
    const relaying = shuffled(shop, relaySteps).slice(0, two);
    const takingIn = shuffled(shipping, ["received", "acknowledged"] as const).slice(0, one);
    return {
      shop: shuffled(shop, [...relaying, shop.pick([...intakeSteps, "killed"])]),
      shipping: shuffled(shipping, ["stored", ...takingIn, shipping.pick([...relaySteps, "killed"])]),
    };
  }

  /** One life after another; the last one does not end. */
  async #lives(side: Side, ends: readonly End[]): Promise<void> {
    const [place, dice] = [this.#sides[side], this.#dice[side]];
    for (const [i, end] of ends.entries()) {
      const next = ends[i + 1];
      // It is ready by the time that the one before it is dead.
      const waits = place.prepare(next === undefined ? {} : this.#life(side, next));
      if (end === "killed") {
        await wait(dice.int(20, 400));
        place.process.kill();
      }
      await this.#ended(place, end);
      this.#deaths += 1;
      await waits;
      await place.follow();
    }
  }

  async #ended({ side, process }: Place, end: End): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), patience.withinMs);
    });
    const exit = await Promise.race([process.exited, late]);
    clearTimeout(timer);
    const said = process.errorOutput.slice(-2_000);
    expect(exit?.signal, `the ${side} was to die: ${end}\n${said}`).toBe("SIGKILL");
  }

  async #broker(): Promise<void> {
    const { keeps } = this.#service;
    const dice = this.#dice.broker;
    if (keeps === "nothing") return;
    for (let death = 0; death < (this.#joining.deaths ?? 2); death += 1) {
      await wait(dice.int(300, 1_200));
      if (keeps === "kill") {
        await this.#service.kill();
        await wait(dice.int(0, 200));
      }
      await this.#service.restart();
      this.#brokerDeaths += 1;
    }
  }

  #life(side: Side, end: End | undefined): Partial<Life> {
    return end === undefined || end === "killed" ? {} : { diesAt: end, time: this.#dice[side].int(1, 4) };
  }

  async #place(over: () => boolean): Promise<void> {
    const dice = this.#dice.orders;
    while (!over()) {
      const onTheirWay = this.#count - (await this.#sides.shop.effects());
      if (onTheirWay < mostOnTheirWay) {
        const some = Array.from({ length: dice.int(1, 12) }, () => dice.int(0, customers - 1));
        await this.#order(some);
      }
      await wait(20);
    }
  }

  /** An order is a row and an event, in one transaction. */
  async #order(of: readonly number[]): Promise<void> {
    await this.#shop.transaction(async ({ tx, publish }) => {
      for (const customer of of) {
        const n = this.#placed[customer] ?? 0;
        this.#placed[customer] = n + 1;
        const order: Order = { order: `${customer}-${n}`, customer: `customer-${customer}`, n };
        const values = [order.order, order.customer, order.n];
        await tx.query('insert into public.placed ("order", customer, n) values ($1, $2, $3)', values);
        publish(OrderPlaced, order);
      }
    });
  }

  get #count(): number {
    return this.#placed.reduce((sum, one) => sum + one, 0);
  }

  async #arrived(): Promise<void> {
    const { shop, shipping } = this.#sides;
    for (const place of [shipping, shop]) {
      await eventually(async () => (await place.orders()) >= this.#count, patience);
    }
    for (const place of [shop, shipping]) {
      await eventually(async () => {
        const lines = await place.post.backlog();
        return lines.every(({ backlog, running }) => backlog === 0 && running === 0);
      }, patience);
    }
  }

  async #check(): Promise<void> {
    const wanted = this.#placed.map((count) => Array.from({ length: count }, (_, n) => n));
    const absorbed: number[] = [];
    for (const place of [this.#sides.shipping, this.#sides.shop]) {
      const byCustomer: number[][] = this.#placed.map(() => []);
      for (const { customer, n } of await place.rows()) byCustomer[Number(customer.split("-")[1])]?.push(n);
      expect(byCustomer, place.side).toEqual(wanted);
      for (const line of await place.post.backlog())
        expect(line, place.side).toMatchObject({ deadLetters: 0, invalid: 0 });
      const [line] = await place.post.intakes();
      const { received = 0, duplicates = 0 } = line ?? {};
      expect(line, place.side).toMatchObject({ written: this.#count, invalid: 0, listed: 0, skipped: 0 });
      expect(received).toBe(this.#count + duplicates);
      absorbed.push(duplicates);
    }
    // One was killed between the commit and the acknowledgement.
    expect(absorbed[0]).toBeGreaterThan(0);
    process.stdout.write(
      `${this.#joining.name}: ${this.told}; came twice and were absorbed: ${absorbed.join(" + ")}\n`,
    );
  }

  get told(): string {
    return `${this.#count} orders, ${this.#deaths} deaths of services, ${this.#brokerDeaths} of the broker`;
  }

  async close(): Promise<void> {
    await this.#shop.stop();
    await Promise.all([this.#sides.shop.close(), this.#sides.shipping.close()]);
  }
}

function shuffled<T>(dice: Random, list: readonly T[]): readonly T[] {
  const left = [...list];
  return list.flatMap(() => left.splice(dice.int(0, left.length - 1), 1));
}

/** One service: its database, and the process that lives now. */
class Place {
  readonly url: string;
  readonly post: Post<Sql>;
  readonly #eye: Client;
  readonly #drop: () => Promise<void>;
  #life: Pick<Life, "side" | "to" | "from"> | undefined;
  #process: FixtureProcess | undefined;
  #next: FixtureProcess | undefined;

  private constructor(url: string, eye: Client, drop: () => Promise<void>) {
    this.url = url;
    this.#eye = eye;
    this.#drop = drop;
    this.post = posthorn({ service: "eye", database: url, migrate: "check", logger: silentLogger }) as Post<Sql>;
  }

  static async open(): Promise<Place> {
    const { url, drop } = await createDatabase();
    const eye = new Client({ connectionString: url });
    await eye.connect();
    await eye.query(tables);
    return new Place(url, eye, drop);
  }

  is(life: Pick<Life, "side" | "to" | "from">): void {
    this.#life = life;
  }

  get side(): Side | undefined {
    return this.#life?.side;
  }

  get process(): FixtureProcess {
    if (this.#process === undefined) throw new Error("nothing runs");
    return this.#process;
  }

  async begin(life: Partial<Life>): Promise<void> {
    await this.prepare(life);
    await this.follow();
    await this.process.line("works");
  }

  async prepare(life: Partial<Life>): Promise<void> {
    const args = [JSON.stringify({ ...this.#life, database: this.url, ...life })];
    this.#next = await spawnFixture("test/brokers/fixtures/service.ts", { args });
    await this.#next.line("ready");
  }

  async follow(): Promise<void> {
    this.#process = this.#next;
    this.process.say("begin");
  }

  async effects(): Promise<number> {
    return this.#number("select count(*)::int as n from public.effect");
  }

  async orders(): Promise<number> {
    return this.#number('select count(distinct "order")::int as n from public.effect');
  }

  async #number(sql: string): Promise<number> {
    const { rows } = await this.#eye.query<{ n: number }>(sql);
    return rows[0]?.n ?? 0;
  }

  async rows(): Promise<readonly Order[]> {
    return (await this.#eye.query<Order>('select "order", customer, n from public.effect order by at')).rows;
  }

  async close(): Promise<void> {
    this.#process?.kill();
    this.#next?.kill();
    await this.post.stop();
    await this.#eye.end();
    await this.#drop();
  }
}
