/** Reads the answers of XREADGROUP, XAUTOCLAIM and XINFO, as bytes: what is no text stays what it is. */

/** An entry; without fields it was removed from the stream meanwhile. */
export interface Answer {
  readonly id: string;
  readonly fields: readonly Buffer[] | undefined;
}

/** `[[stream, entries]]`, or nothing where nothing came in time. */
export function readIn(answer: unknown): readonly Answer[] {
  const [ofStream] = listOf(answer);
  return entriesIn(listOf(ofStream)[1]);
}

/** `[next, entries, removed]`: what was removed from the stream is taken from the consumer by Redis itself, from version 7 on. */
export function claimedIn(answer: unknown): { readonly next: string; readonly entries: readonly Answer[] } {
  const [next, entries] = listOf(answer);
  return { next: textOf(next) ?? "0-0", entries: entriesIn(entries) };
}

function entriesIn(entries: unknown): readonly Answer[] {
  const read: Answer[] = [];
  for (const entry of listOf(entries)) {
    const [given, fields] = listOf(entry);
    const id = textOf(given);
    if (id !== undefined) read.push({ id, fields: Array.isArray(fields) ? buffersIn(fields) : undefined });
  }
  return read;
}

/** All of them, mostly. */
function buffersIn(fields: readonly unknown[]): readonly Buffer[] {
  const isBuffer = (one: unknown): one is Buffer => Buffer.isBuffer(one);
  return fields.every(isBuffer) ? fields : fields.filter(isBuffer);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Names and values in turn. */
export function fieldsIn(answer: unknown): ReadonlyMap<string, unknown> {
  const list = listOf(answer);
  const fields = new Map<string, unknown>();
  for (let i = 0; i + 1 < list.length; i += 2) fields.set(textOf(list[i]) ?? "", list[i + 1]);
  return fields;
}

export function textOf(value: unknown): string | undefined {
  return Buffer.isBuffer(value) ? value.toString() : typeof value === "string" ? value : undefined;
}
