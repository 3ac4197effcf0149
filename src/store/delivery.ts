/** A message in a worker's hands, and what it is made of: a row of the answer of a claim or of a take. */

/** What proves that the holder holds it. */
export type Hold = LogHold | { readonly from: "deferred"; readonly deferred: string; readonly token: string };

export interface LogHold {
  readonly from: "log";
  readonly claim: string;
  readonly token: string;
  readonly claimSlot: number;
  readonly messageSlot: number;
}

/** A message as a claim answers it, and as a take does. */
export type LogRow = [
  string,
  string,
  number,
  number,
  string | null,
  unknown,
  Record<string, string> | null,
  number,
  number?,
];
export type DeferredRow = [
  string,
  string,
  null,
  number,
  string | null,
  unknown,
  Record<string, string> | null,
  number,
  string,
  string,
  number,
  number,
  number,
  number | null,
];

/**
 * A message in a worker's hands. A class and no literal: of literals V8 learns that all of the first claim outlive its look for garbage, and puts those that
 * follow where they stay with all that they hold, until it next looks everywhere.
 */
export class Delivery {
  readonly subscription: number;
  readonly id: string;
  readonly nonce: string;
  readonly contract: number;
  readonly key: string | null;
  /** The payload as parsed JSON, before its schema; or as its text, for a reader that wants it verbatim. */
  readonly payload: unknown;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly publishedAt: number;
  /** Number of this hand-out; 1 from the log. */
  readonly delivery: number;
  /** Failed runs so far. */
  readonly attempts: number;
  readonly crashes: number;
  /** When it expires, on the clock of `performance.now`; undefined for never. */
  declare readonly expiresAt?: number | undefined;
  /** Changes when a message that runs is moved out of its claim. */
  hold: Hold;
  /** Of the one message that is tried while its circuit is half-open: the token under which its outcome is told. */
  declare readonly probe?: string;
  /** Set by a run that has steps recorded: they are removed when the message succeeds. */
  declare stepped?: true;

  /** Rows of a claim and of a take begin with the same eight. */
  constructor(
    subscription: number,
    row: LogRow | DeferredRow,
    hold: Hold,
    [delivery, attempts, crashes]: readonly [delivery: number, attempts: number, crashes: number],
    expiresInMs: number | null | undefined,
  ) {
    this.subscription = subscription;
    this.id = row[0];
    this.nonce = row[1];
    this.contract = row[3];
    this.key = row[4];
    this.payload = row[5];
    this.headers = row[6];
    this.publishedAt = row[7];
    this.delivery = delivery;
    this.attempts = attempts;
    this.crashes = crashes;
    this.expiresAt = fromNow(expiresInMs);
    this.hold = hold;
  }
}

const firstHandOut = [1, 0, 0] as const;

/** Messages of one slot have one hold. */
export function fromLog(subscription: number, hold: Omit<LogHold, "messageSlot">, rows: readonly LogRow[]): Delivery[] {
  const holds = new Map<number, LogHold>();
  return rows.map((row) => {
    const [, , messageSlot, , , , , , expiresInMs] = row;
    const held = holds.get(messageSlot) ?? { ...hold, messageSlot };
    holds.set(messageSlot, held);
    return new Delivery(subscription, row, held, firstHandOut, expiresInMs);
  });
}

/** Counted from when the answer arrives: late by the way of the answer, never early. */
function fromNow(inMs: number | null | undefined): number | undefined {
  return inMs === null || inMs === undefined ? undefined : performance.now() + inMs;
}

export function fromDeferred(subscription: number, rows: readonly DeferredRow[]): readonly Delivery[] {
  return rows.map((row) => {
    const [, , , , , , , , deferred, token, delivery, attempts, crashes, expiresInMs] = row;
    const hold: Hold = { from: "deferred", deferred, token };
    return new Delivery(subscription, row, hold, [delivery, attempts, crashes], expiresInMs);
  });
}
