/**
 * What was found out about names that come as bytes: those of headers and fields. In most messages they lie where they lay in the one before, so a name
 * is compared with that one before it is read. Bounded, since they come from outside.
 */
export class KnownNames<T> {
  readonly #lookAt: (name: string) => T;
  readonly #places: ({ readonly bytes: Buffer; readonly found: T } | undefined)[] = [];

  constructor(lookAt: (name: string) => T) {
    this.#lookAt = lookAt;
  }

  /** Of the name at a place of a message. */
  at(place: number, bytes: Buffer): T {
    const before = this.#places[place];
    if (before?.bytes.equals(bytes)) return before.found;
    const found = this.#lookAt(bytes.toString());
    // A copy: the bytes are a part of much that was received with them.
    if (place < mostPlaces && bytes.length <= longest) this.#places[place] = { bytes: Buffer.from(bytes), found };
    return found;
  }
}

const mostPlaces = 64;
const longest = 200;
