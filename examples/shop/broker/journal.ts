/**
 * What the broker has taken and nobody has acknowledged yet, on disk and in order. A message is in it before its sender hears of it, and until its
 * receiver has it: so neither a kill of the broker nor one of the receiver loses it. What was on its way comes twice then, under the same id.
 */
import { Level } from "level";

export interface Kept {
  readonly topic: string;
  readonly payload: string;
}

export class Journal {
  readonly #db: Level<string, string>;
  /** Where each stands; by topic and id of the event. */
  readonly #places = new Map<string, string>();
  #last = 0;

  private constructor(db: Level<string, string>) {
    this.#db = db;
  }

  static async open(folder: string): Promise<Journal> {
    const journal = new Journal(new Level(folder));
    await journal.#db.open();
    for await (const [place, text] of journal.#db.iterator()) {
      journal.#places.set(nameOf(JSON.parse(text)), place);
      journal.#last = Number(place);
    }
    return journal;
  }

  async keep(message: Kept): Promise<void> {
    const name = nameOf(message);
    if (this.#places.has(name)) return;
    this.#last += 1;
    const place = String(this.#last).padStart(15, "0");
    this.#places.set(name, place);
    await this.#db.put(place, JSON.stringify(message));
  }

  async forget(message: Kept): Promise<void> {
    const name = nameOf(message);
    const place = this.#places.get(name);
    if (place === undefined) return;
    await this.#db.del(place);
    this.#places.delete(name);
  }

  /** Those of a topic, in the order in which they came. */
  async *of(topic: string): AsyncGenerator<Kept> {
    for await (const text of this.#db.values()) {
      const message = JSON.parse(text) as Kept;
      if (message.topic === topic) yield message;
    }
  }

  close(): Promise<void> {
    return this.#db.close();
  }
}

/** The payload is a CloudEvent as one JSON body: its source and id name it. */
function nameOf({ topic, payload }: Kept): string {
  const { source, id } = JSON.parse(payload) as { readonly source: string; readonly id: string };
  return JSON.stringify([topic, source, id]);
}
