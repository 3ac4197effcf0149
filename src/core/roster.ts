/**
 * Members that come and go by the thousand, each at a number of its own.
 *
 * Not a Set: one that has seen enough changes moves to a new table, and V8 leaves the members in the old one. Where that is in the old generation,
 * all that they hold survives until the next full collection: in a worker at full speed, half of everything.
 */
export class Roster<T extends object> implements Iterable<T> {
  readonly #members: (T | undefined)[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#members.length - this.#free.length;
  }

  /** Returns the number to remove it by. */
  add(member: T): number {
    const at = this.#free.pop() ?? this.#members.length;
    this.#members[at] = member;
    return at;
  }

  /** Does nothing where it was removed before. */
  remove(at: number, member: T): void {
    if (this.#members[at] !== member) return;
    this.#members[at] = undefined;
    this.#free.push(at);
  }

  /** In no order. Those that are added meanwhile may be missed, those that are removed are. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    for (const member of this.#members) if (member !== undefined) yield member;
  }
}
