/** A producer that says commands and events all the time and writes down what was confirmed. */

import { CallOutside, FireOnce, OrderPlaced, WriteRow } from "./fixtures/contracts.js";
import type { Scene } from "./scene.js";

/** What became of a number that was said under a contract's name. */
export type Fate = "confirmed" | "refused" | "unknown";

export class Load {
  readonly #scene: Scene;
  readonly #everyMs: number;
  readonly fates: ReadonlyMap<string, Map<number, Fate>>;
  /** What the business rows say: written in one transaction with the event of the same number. */
  readonly orders = new Map<number, Fate>();
  #next = 1;
  #ended = false;
  #running: Promise<void> = Promise.resolve();

  constructor(scene: Scene, everyMs: number) {
    this.#scene = scene;
    this.#everyMs = everyMs;
    this.fates = new Map(["WriteRow", "CallOutside", "FireOnce", "OrderPlaced"].map((name) => [name, new Map()]));
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await this.#running;
  }

  /** How many numbers had this fate. */
  count(fate: Fate): number {
    return [...this.fates.values()].flatMap((of) => [...of.values()]).filter((one) => one === fate).length;
  }

  async #run(): Promise<void> {
    const { post } = this.#scene;
    while (!this.#ended) {
      await Promise.all([
        this.#say("WriteRow", 3, (work) => post.sendMany(WriteRow, work)),
        this.#say("CallOutside", 3, (work) => post.sendMany(CallOutside, work)),
        this.#say("FireOnce", 2, (work) =>
          post.sendMany(
            FireOnce,
            work.map(({ n }) => ({ n })),
          ),
        ),
        this.#say("OrderPlaced", 1, (work) => this.#order(work)),
      ]);
      await new Promise((resolve) => setTimeout(resolve, this.#everyMs));
    }
  }

  async #order(work: readonly { readonly n: number; readonly act: string }[]): Promise<void> {
    await this.#scene.post.transaction(async ({ tx, publish }) => {
      for (const one of work) {
        await tx.query("insert into orders (n) values ($1)", [one.n]);
        publish(OrderPlaced, one);
      }
    });
  }

  async #say(
    name: string,
    count: number,
    say: (work: readonly { readonly n: number; readonly act: string }[]) => Promise<unknown>,
  ): Promise<void> {
    const fates = this.fates.get(name);
    const numbers = Array.from({ length: count }, () => this.#next++);
    const fate = await say(numbers.map((n) => ({ n, act: "storm" }))).then(
      (): Fate => "confirmed",
      (error: unknown): Fate => (inDoubt(error) ? "unknown" : "refused"),
    );
    for (const n of numbers) fates?.set(n, fate);
  }
}

/** Only a connection that could not be made says for certain that nothing was stored. */
function inDoubt(error: unknown): boolean {
  return !(
    error instanceof Error &&
    "code" in error &&
    (error.code === "PH_DATABASE_AWAY" || error.code === "PH_DATABASE_BUSY")
  );
}
