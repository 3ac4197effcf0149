/** What a receiver holds of one partition: how far it has read, what waits to be handed out, and what was handed out and not yet acknowledged. */
import type { Incoming } from "../broker.js";

/** The place of a message, for the receiver alone. */
export interface Handle {
  readonly held: Held;
  readonly offset: bigint;
}

export class Held {
  readonly partition: number;
  /** The next offset to fetch. */
  position: bigint;
  /** What the group has committed, as far as this receiver knows. */
  committed: bigint;
  bytes = 0;
  readonly #waiting: Incoming[] = [];
  #given: { readonly offset: bigint; acknowledged: boolean }[] = [];

  constructor(partition: number, position: bigint) {
    this.partition = partition;
    this.position = position;
    this.committed = position;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  add(message: Incoming): void {
    this.#waiting.push(message);
    this.bytes += message.body.length;
  }

  /** The next ones in their order, at most so many. */
  give(most: number): readonly Incoming[] {
    const given = this.#waiting.splice(0, most);
    for (const { body, handle } of given) {
      this.bytes -= body.length;
      if (isHandle(handle)) this.#given.push({ offset: handle.offset, acknowledged: false });
    }
    return given;
  }

  acknowledge(offsets: ReadonlySet<bigint>): void {
    for (const one of this.#given) if (offsets.has(one.offset)) one.acknowledged = true;
    const open = this.#given.findIndex(({ acknowledged }) => !acknowledged);
    const done = this.#given.splice(0, open === -1 ? this.#given.length : open).at(-1);
    if (done !== undefined) this.#done = done.offset + 1n;
  }

  #done: bigint | undefined;

  /** Where the group may be: before it everything is acknowledged. Undefined while nothing new is. */
  get commitable(): bigint | undefined {
    return this.#done !== undefined && this.#done > this.committed ? this.#done : undefined;
  }
}

export function isHandle(value: unknown): value is Handle {
  return typeof value === "object" && value !== null && "held" in value && value.held instanceof Held;
}
