/**
 * What was found out about texts that come again with most messages: names of headers, media types. Bounded, since they come from outside: when it is
 * full it begins anew, and long ones are not kept.
 */
export class Recent<T extends object> {
  readonly #found = new Map<string, T>();

  get(text: string): T | undefined {
    return this.#found.get(text);
  }

  /** Returns what it was given. */
  keep(text: string, found: T): T {
    if (text.length > longest) return found;
    if (this.#found.size >= most) this.#found.clear();
    this.#found.set(text, found);
    return found;
  }
}

const most = 500;
const longest = 200;
