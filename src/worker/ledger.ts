/**
 * What one reader holds and has not settled: open claims, parts to write, ends with their consequences, and what handlers said.
 *
 * A claim is settled in numbered parts without gaps: a rescuer writes the next number, and a holder that wakes up meets it. So at
 * most one flush is on its way at any time, and it is written as a whole or not at all.
 */
import { ClaimLostError } from "../core/errors.js";
import { groupBy } from "../core/group.js";
import { type Batch, nothingSaid } from "../producer/buffer.js";
import type { LogHold } from "../store/delivery.js";
import type { Claimed, Delivery, End, Part, StoredResult } from "../store/work.js";

interface OpenClaim {
  readonly claim: string;
  readonly token: string;
  readonly slot: number;
  readonly size: number;
  readonly openedAt: number;
  /** Messages whose end nobody has decided yet. */
  running: number;
  nextPart: number;
  succeeded: string[];
  skipped: string[];
}

/** What a handler said, with the deliveries that it is settled with: one, or those of a batch. */
export interface SaidBy {
  readonly deliveries: readonly Delivery[];
  readonly batch: Batch;
}

/** What goes to the database in one statement. */
export interface Flush {
  readonly parts: readonly Part[];
  readonly ends: readonly End[];
  readonly says: readonly SaidBy[];
}

export class Ledger {
  /** In transaction mode each message ends by itself, and a claim is only closed. */
  readonly #endsThemselves: boolean;
  readonly #open = new Map<string, OpenClaim>();
  #ends: End[] = [];
  #says: SaidBy[] = [];
  #touched = new Set<OpenClaim>();
  #highest: bigint | undefined;
  /** When the oldest settlement that waits here was made. */
  #since: number | undefined;

  constructor(endsThemselves: boolean) {
    this.#endsThemselves = endsThemselves;
  }

  /**
   * Takes the deliveries of one claim in. `parts` of it are written already; so many messages of it were put `aside`, of which parts tell only where
   * they name messages.
   */
  opened(deliveries: readonly Delivery[], { parts = 0, aside = 0 }: Pick<Claimed, "parts" | "aside"> = {}): void {
    const hold = deliveries[0]?.hold;
    if (hold?.from !== "log") return;
    const id = BigInt(hold.claim);
    if (this.#highest === undefined || id > this.#highest) this.#highest = id;
    this.#open.set(hold.claim, {
      claim: hold.claim,
      token: hold.token,
      slot: hold.claimSlot,
      // Where some of it are not among these, no part stands for all.
      size: parts + aside === 0 ? deliveries.length : Number.POSITIVE_INFINITY,
      running: deliveries.length,
      openedAt: performance.now(),
      nextPart: 1 + parts,
      succeeded: [],
      skipped: [],
    });
  }

  /** The part that says "these runs begin now", to be written before they do; undefined when the claim is not ours any more. */
  begun(deliveries: readonly Delivery[]): Part | undefined {
    const hold = deliveries[0]?.hold;
    const claim = hold?.from === "log" ? this.#open.get(hold.claim) : undefined;
    if (claim === undefined) return undefined;
    return nextPart(
      claim,
      "begun",
      false,
      deliveries.map(({ id }) => id),
    );
  }

  /** The same for a batch, whose messages may be of several claims. */
  begunTogether(deliveries: readonly Delivery[]): Part[] {
    const claims = groupBy(deliveries, ({ hold }) => (hold.from === "log" ? hold.claim : ""));
    return [...claims.values()].map((some) => this.begun(some)).filter((part) => part !== undefined);
  }

  /** Succeeded in a claim-settling mode, with what the handler said and returned. */
  succeeded(delivery: Delivery, batch: Batch, result?: StoredResult): void {
    if (this.#isLost(delivery)) return;
    if (batch.messages.length > 0) this.#says.push({ deliveries: [delivery], batch });
    else batch.committed([]);
    const plain = delivery.hold.from === "log" && delivery.stepped === undefined ? delivery.hold : undefined;
    if (result !== undefined) this.ended({ delivery, outcome: "succeeded", next: { result }, ends: false });
    else if (plain !== undefined) this.#change(plain, (claim) => claim.succeeded.push(delivery.id));
    else this.ended({ delivery, outcome: "succeeded", next: null, ends: false });
  }

  /**
   * Succeeded together: what their handler said goes out with all of them. Where others hold some of it already, it would go out and be said again
   * there; then it throws, since this worker counts as dead and the rest will be rescued as well.
   */
  succeededTogether(deliveries: readonly Delivery[], batch: Batch): void {
    const held = deliveries.filter((delivery) => !this.#isLost(delivery));
    if (batch.messages.length === 0) batch.committed([]);
    else if (held.length < deliveries.length) throw torn();
    else this.#says.push({ deliveries, batch });
    for (const delivery of held) this.succeeded(delivery, nothingSaid);
  }

  /** Nobody listens to it. */
  skipped(delivery: Delivery): void {
    if (delivery.hold.from === "log" && !this.#endsThemselves) {
      this.#change(delivery.hold, (claim) => claim.skipped.push(delivery.id));
    } else {
      this.ended({ delivery, outcome: "skipped", next: null, ends: this.#endsThemselves });
    }
  }

  /** Ended by a transaction of its own, or lost: nothing of it is to be written here but the close of its claim. */
  endedElsewhere(delivery: Delivery): void {
    if (delivery.hold.from === "log") this.#change(delivery.hold, () => undefined);
  }

  /** An end with a consequence. */
  ended(end: End): void {
    if (this.#isLost(end.delivery)) return;
    this.#since ??= performance.now();
    this.#ends.push(end);
    if (end.delivery.hold.from === "log") this.#change(end.delivery.hold, () => undefined);
  }

  /** Its claim was ended by others. Without a part of the claim beside it, nothing would fence what is written for it. */
  #isLost({ hold }: Delivery): boolean {
    return hold.from === "log" && !this.#open.has(hold.claim);
  }

  #change(hold: LogHold, change: (claim: OpenClaim) => void): void {
    const claim = this.#open.get(hold.claim);
    if (claim === undefined) return;
    this.#since ??= performance.now();
    claim.running -= 1;
    change(claim);
    this.#touched.add(claim);
  }

  /** Whether anything waits that must not wait for company: ends with consequences, and what handlers said. */
  get urgent(): boolean {
    return this.#ends.length > 0 || this.#says.length > 0;
  }

  /** Milliseconds that the oldest settlement has waited here; undefined when there is none. */
  get waitingMs(): number | undefined {
    return this.#since === undefined ? undefined : performance.now() - this.#since;
  }

  get idle(): boolean {
    return this.#since === undefined && this.#open.size === 0;
  }

  /** The oldest claim that is open. */
  get firstOpen(): bigint | undefined {
    const first = this.#open.keys().next();
    return first.done ? undefined : BigInt(first.value);
  }

  /** The claim that has been open longest with messages that run, and for how long. */
  get slowest(): { readonly claim: string; readonly forMs: number } | undefined {
    for (const { claim, running, openedAt } of this.#open.values()) {
      if (running > 0) return { claim, forMs: performance.now() - openedAt };
    }
    return undefined;
  }

  /** So many messages leave a claim; the part that says so closes it when nothing else runs. Everything before must be drained. */
  spilled(claim: string, count: number): Pick<Part, "claim" | "token" | "slot" | "part" | "closes"> | undefined {
    const open = this.#open.get(claim);
    if (open === undefined) return undefined;
    open.running -= count;
    const closes = open.running === 0;
    if (closes) this.#open.delete(claim);
    return nextPart(open, "parked", closes, []);
  }

  /** The newest claim there has been. */
  get highest(): bigint | undefined {
    return this.#highest;
  }

  /** Everything that is to be written. */
  drain(): Flush {
    const endsOf = groupBy(
      this.#ends.filter(({ delivery, ends }) => delivery.hold.from === "log" && !ends),
      ({ delivery }) => (delivery.hold.from === "log" ? delivery.hold.claim : ""),
    );
    const parts: Part[] = [];
    for (const claim of this.#touched) {
      parts.push(...partsOf(claim, endsOf.get(claim.claim) ?? []));
      if (claim.running === 0) this.#open.delete(claim.claim);
    }
    const flush = { parts, ends: this.#ends, says: this.#says };
    this.#ends = [];
    this.#says = [];
    this.#touched = new Set();
    this.#since = undefined;
    return flush;
  }

  /** Forgets claims that others ended. Their runs go on and end in nothing. */
  lost(claims: Iterable<string>): void {
    for (const claim of claims) this.#open.delete(claim);
  }
}

/** The parts that are due of a claim: one for each outcome, the last of which closes it when nothing runs any more. */
function partsOf(claim: OpenClaim, ends: readonly End[]): Part[] {
  const groups: [Part["outcome"], string[]][] = [
    ["succeeded", claim.succeeded],
    ["skipped", claim.skipped],
  ];
  for (const [outcome, group] of groupBy(ends, (end) => end.outcome)) {
    groups.push([outcome, group.map(({ delivery }) => delivery.id)]);
  }
  const full = groups.filter(([, messages]) => messages.length > 0);
  const closes = claim.running === 0;
  claim.succeeded = [];
  claim.skipped = [];
  if (full.length === 0) return closes ? [nextPart(claim, null, true, [])] : [];
  return full.map(([outcome, messages], i) => nextPart(claim, outcome, closes && i === full.length - 1, messages));
}

function nextPart(claim: OpenClaim, outcome: Part["outcome"], closes: boolean, messages: string[]): Part {
  const { token, slot } = claim;
  const part = claim.nextPart;
  claim.nextPart += 1;
  const whole = messages.length === claim.size;
  return { claim: claim.claim, token, slot, part, outcome, closes, ...(whole ? {} : { messages }) };
}

function torn(): ClaimLostError {
  return new ClaimLostError(
    "PH_CLAIM_LOST",
    "A part of a batch was rescued; nothing of what its handler said goes out.",
  );
}

/** What a refused flush named as lost. */
export interface Lost {
  readonly claims?: readonly string[];
  readonly deferred?: string;
  readonly ended?: string;
}

/**
 * The flush without what is lost; null when nothing was taken away, so that nobody tries the same again. Throws when it is a part of a batch that
 * said something: what it said would go out, and be said again by whoever runs that part.
 */
export function without(flush: Flush, lost: Lost): Flush | null {
  const claims = new Set(lost.claims ?? []);
  const isLost = ({ hold, id }: Delivery): boolean =>
    hold.from === "log" ? claims.has(hold.claim) || lost.ended === id : lost.deferred === hold.deferred;
  const parts = flush.parts.filter(({ claim }) => !claims.has(claim));
  const ends = flush.ends.filter(({ delivery }) => !isLost(delivery));
  const says = flush.says.filter(({ deliveries }) => !deliveries.every(isLost));
  // One that was taken away from `deferred` alone was cancelled or discarded: nobody runs it again.
  if (claims.size > 0 && says.some(({ deliveries }) => deliveries.some(isLost))) throw torn();
  const same = parts.length === flush.parts.length && ends.length === flush.ends.length;
  return same ? null : { parts, ends, says };
}
