/** What relays are measured with: events of 300 bytes, each the next of its key, and proof that every one arrived in the order of its key. */
import { days, event, type Post, policies, type } from "posthorn";

export const relayedBytes = 300;
export const relayedKeys = 1_000;

interface Relayed {
  readonly key: string;
  /** Counts all events, so those of a key grow. */
  readonly n: number;
  readonly text: string;
}

export const topic = "relayed";
export const ThingRelayed = event("ThingRelayed", { topic, schema: type<Relayed>(), key: ({ key }) => key });

/** Nobody is to be told of a backlog that is made on purpose. */
export const relayPolicy = {
  ...policies.relay,
  alerts: { oldestAgeMs: days(1), backlog: 100_000_000, deadLetters: 1, noWorkerMs: days(1) },
} as const;

export function relayed(n: number): Relayed {
  const fields = { key: `key ${n % relayedKeys}`, n, text: "" };
  return { ...fields, text: "x".repeat(relayedBytes - JSON.stringify(fields).length) };
}

export async function publishRelayed<Tx>(post: Post<Tx>, from: number, upTo: number): Promise<void> {
  for (let first = from; first < upTo; first += 1_000) {
    const some = Array.from({ length: Math.min(1_000, upTo - first) }, (_, i) => relayed(first + i));
    await post.publishMany(ThingRelayed, some);
  }
}

interface Arrived {
  readonly key: string | null;
  readonly event: { readonly data: string };
}

/** Which of the events it is. Cheaper than parsing, for this is done while it is measured. Errors: where its key is not the one of that event. */
export function numberOf({ key, event: { data } }: Arrived): number {
  const at = data.indexOf('"n":') + 4;
  const n = Number(data.slice(at, data.indexOf(",", at)));
  if (key !== `key ${n % relayedKeys}`) throw new Error(`${data} came with the key ${key}`);
  return n;
}

/** Whether everything arrived, in order within each key. What comes twice counts once. */
export class Arrivals {
  readonly #last = new Map<number, number>();
  readonly #seen = new Set<number>();

  add(message: Arrived): void {
    this.came(numberOf(message));
  }

  came(n: number): void {
    if (this.#seen.has(n)) return;
    this.#seen.add(n);
    const key = n % relayedKeys;
    const before = this.#last.get(key) ?? -1;
    if (before > n) throw new Error(`${n} of key ${key} came after ${before}`);
    this.#last.set(key, n);
  }

  get count(): number {
    return this.#seen.size;
  }
}
