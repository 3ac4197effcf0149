/** What is said to the queue: at once, in transactions that roll back, and in some that stay open while others work. */
import { type Outgoing, publicId, writeMessages } from "../../src/store/publish.js";
import { Wrong } from "./checks.js";
import { type Options, Said } from "./said.js";
import { hour, type Stage } from "./stage.js";

export interface Entry extends Options {
  readonly key: string | null;
}

export class Producer {
  readonly #stage: Stage;
  /** What transactions have said that are open. */
  readonly #open = new Map<number, Said[]>();
  #numbers = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Transactions that are open. */
  get open(): readonly number[] {
    return [...this.#open.keys()];
  }

  async send(entries: readonly Entry[], rollback: boolean): Promise<void> {
    const numbers = entries.map(() => this.#number());
    if (rollback) {
      const session = this.#stage.sessions[3];
      if (session === undefined) return;
      await session.rows("begin");
      await writeMessages(session, this.#outgoing(entries, numbers));
      await session.rows("rollback");
      return;
    }
    const places = await writeMessages(this.#stage.engine.db, this.#outgoing(entries, numbers));
    for (const [i, entry] of entries.entries()) this.#said(entry, numbers[i] ?? 0, places.at(i), undefined);
  }

  #number(): number {
    this.#numbers += 1;
    return this.#numbers;
  }

  #said(
    entry: Entry,
    says: number,
    place: { readonly id: string; readonly nonce: string } | undefined,
    transaction: number | undefined,
  ): Said {
    if (place === undefined) throw new Wrong(`no place for ${says}`);
    const { model } = this.#stage;
    const at = { id: BigInt(place.id), publicId: publicId(place) };
    const known = model.all.find((one) => one.publicId === at.publicId);
    const verdict =
      entry.dedupe === null ? undefined : model.requests.judge(entry.dedupe, entry.delayed, says, entry.expires);
    if (verdict !== undefined && "stands" in verdict) {
      if (known !== verdict.stands)
        throw new Wrong(`${says} should be the same as ${verdict.stands.says}, not ${known?.says ?? "a new one"}`);
      return verdict.stands;
    }
    if (known !== undefined) throw new Wrong(`${says} should be a new message, not the same as ${known.says}`);
    const said = new Said(at, says, entry.key, entry, "log");
    const due = verdict !== undefined ? verdict.due : entry.delayed ? "later" : null;
    model.written(said, entry, due, transaction);
    if (verdict !== undefined && entry.dedupe !== null) {
      said.onceMore = entry.dedupe.mode === "once-more";
      said.behind = verdict.behind;
      model.requests.accepted(entry.dedupe, said, verdict);
    }
    return said;
  }

  #outgoing(entries: readonly Entry[], numbers: readonly number[]): readonly Outgoing[] {
    const { contract, channel } = this.#stage.reader;
    return entries.map((entry, i): Outgoing => {
      const { key, delayed, expires, priority, dedupe } = entry;
      const common = { contract, channel, key, json: JSON.stringify({ m: numbers[i] }), headers: null };
      if (!hasExtras(entry)) return common;
      const windowed = dedupe !== null && dedupe.mode !== "replace" && dedupe.mode !== "once-more";
      const json = JSON.stringify({
        ...(delayed && { delayMs: hour }),
        ...(expires && { expiresInMs: 10 * hour }),
        ...(priority !== 0 && { priority }),
        ...(dedupe !== null && { dedupe: { mode: dedupe.mode, ...(windowed && { windowMs: 2 * hour }) } }),
      });
      const dedupeKey = dedupe === null ? undefined : `${this.#stage.name}-${dedupe.key}`;
      const once = dedupeKey === undefined ? undefined : `${contract}\0${dedupeKey}`;
      const alone = dedupe?.mode === "drop" && !delayed && !expires && priority === 0;
      const dropWithinMs = alone ? 2 * hour : undefined;
      return { ...common, extras: { json, dedupeKey, dropWithinMs, priority, waits: delayed || windowed, once } };
    });
  }

  /** In a transaction that stays open. */
  async sayInside(slot: number, entries: readonly Entry[]): Promise<void> {
    const session = this.#stage.sessions[slot];
    if (session === undefined) return;
    const inside = this.#open.get(slot) ?? [];
    if (inside.length === 0) await session.rows("begin");
    this.#open.set(slot, inside);
    for (const entry of entries) {
      const says = this.#number();
      const [place] = await writeMessages(session, this.#outgoing([entry], [says]));
      inside.push(this.#said(entry, says, place, slot));
    }
  }

  async close(slot: number, commit: boolean): Promise<void> {
    const inside = this.#open.get(slot);
    if (inside === undefined) return;
    this.#open.delete(slot);
    await this.#stage.sessions[slot]?.rows(commit ? "commit" : "rollback");
    for (const said of inside) {
      if (commit) this.#stage.model.committed(said);
      else this.#stage.model.rolledBack(said);
    }
  }
}

function hasExtras({ delayed, expires, priority, dedupe }: Options): boolean {
  return delayed || expires || priority !== 0 || dedupe !== null;
}
