/**
 * Whether a notification should ride with the message that it tells of: in one transaction both cost less than two do, and the message is
 * heard of sooner.
 *
 * But of all transactions of a server that notify, one commits at a time. Where many processes write, or the disk is slow, those that notify wait
 * for each other, and then it is better told behind, in a transaction that waits for no disk. So both ways are timed, each now and then.
 */

/**
 * How much the newest time counts in the mean. A shorter one counts more: the first go through connections that are being opened, and a few that
 * hung say nothing of the next, while those that wait for each other are all slow.
 */
const weight = { shorter: 0.5, longer: 0.1 } as const;
/** Every so many goes the other way, to know how long that takes. */
const otherWay = { paying: 16, notPaying: 64 } as const;
/** Riding may take so much longer before it does not pay. */
const worth = { factor: 2, ms: 1 } as const;

export class Rides {
  #count = 0;
  #ridingMs: number | undefined;
  #plainMs: number | undefined;

  /** Whether the next message should take a notification with it. */
  next(): boolean {
    const pays = this.#pays;
    this.#count += 1;
    const other = this.#count % (pays ? otherWay.paying : otherWay.notPaying) === 0;
    return pays !== other;
  }

  took(ms: number, riding: boolean): void {
    if (riding) this.#ridingMs = mean(this.#ridingMs, ms);
    else this.#plainMs = mean(this.#plainMs, ms);
  }

  get #pays(): boolean {
    if (this.#ridingMs === undefined || this.#plainMs === undefined) return true;
    return this.#ridingMs <= this.#plainMs * worth.factor + worth.ms;
  }
}

function mean(before: number | undefined, ms: number): number {
  return before === undefined ? ms : before + (ms - before) * (ms < before ? weight.shorter : weight.longer);
}
