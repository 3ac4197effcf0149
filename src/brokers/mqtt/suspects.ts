/**
 * Finds the message for which a broker drops the connection instead of answering. With others on their way nobody can tell which one it was, and sent
 * again in the same company it would keep all of them from arriving for good.
 *
 * After a loss, as many messages as were on their way go one by one. The one that was alone on its way when the connection was lost is suspected, and
 * goes alone from then on; when it happens a second time it is its own failure. Once can be chance: the broker was stopped just then.
 */
const remembered = 1_000;

export class Suspects {
  /** Names to losses, the longest suspected first. */
  readonly #losses = new Map<string, number>();
  /** Messages that still go one by one. */
  #careful = 0;
  #isAlone = false;

  /** Whether it may not be sent while another is on its way. */
  goesAlone(name: string): boolean {
    return this.#isAlone || this.#careful > 0 || this.#losses.has(name);
  }

  sent(name: string): void {
    this.#isAlone = this.#careful > 0 || this.#losses.has(name);
  }

  /** The broker took it, or said why not. */
  answered(name: string): void {
    this.#isAlone = false;
    this.#careful = Math.max(0, this.#careful - 1);
    this.#losses.delete(name);
  }

  /** The connection was lost with these on their way. Returns the one that is to blame. */
  lost(names: readonly string[]): string | undefined {
    this.#isAlone = false;
    this.#careful = Math.max(this.#careful, names.length);
    const [name, another] = names;
    if (name === undefined || another !== undefined) return undefined;
    const losses = (this.#losses.get(name) ?? 0) + 1;
    this.#losses.delete(name);
    this.#losses.set(name, losses);
    const [oldest] = this.#losses.keys();
    if (this.#losses.size > remembered && oldest !== undefined) this.#losses.delete(oldest);
    return losses > 1 ? name : undefined;
  }
}
