/**
 * What the engine may do with the messages of one queue, in plain TypeScript: a list of messages, and for each act what becomes of them.
 *
 * Time is no number here: what waits is due now, later, or never by itself; a test makes later now. Who claims, takes and ends is told by the test;
 * the model says what may be claimed and taken, in which order, and in which state everything is afterwards.
 */
import { Requests } from "./requests.js";
import {
  bySince,
  type Due,
  isEnded,
  isHeld,
  type Next,
  type Options,
  type Outcome,
  type Said,
  type Shape,
} from "./said.js";

export interface Claim {
  readonly worker: string;
  /** Those without an end. */
  readonly open: Set<Said>;
  /** Those whose keys it holds. */
  readonly holding: Set<Said>;
}

interface Position {
  late: Said[];
  main: Said[];
  ceiling: bigint;
}

export class Reference {
  readonly shape: Shape;
  readonly all: Said[] = [];
  readonly claims: Claim[] = [];
  readonly parked = new Set<string>();
  readonly requests: Requests;
  readonly #lanes = new Map<number, Position>();
  #tick = 0;

  constructor(shape: Shape) {
    this.shape = shape;
    this.requests = new Requests(this);
  }

  get ordered(): boolean {
    return this.shape.ordering !== "none";
  }

  tick(): number {
    this.#tick += 1;
    return this.#tick;
  }

  // Saying

  /** A message that was written. Without `due` it may begin at once, and lies in the log alone. */
  written(said: Said, options: Options, due: Due | null, transaction?: number): void {
    said.transaction = transaction;
    said.apart = due !== null;
    if (due !== null) {
      said.due = due;
      said.dueSince = this.tick();
      said.row = this.tick();
    }
    said.at = transaction !== undefined ? "open" : due !== null ? "waiting" : "log";
    said.outside = options.delayed;
    const seen = (one: Said) => one.at !== "open" || (transaction !== undefined && one.transaction === transaction);
    if (said.key !== null && !said.outside) {
      said.before = this.all.filter((one) => one.key === said.key && !one.outside && seen(one));
    }
    this.all.push(said);
    this.#lane(said.priority);
  }

  committed(said: Said): void {
    said.at = said.row > 0 ? "waiting" : "log";
  }

  rolledBack(said: Said): void {
    this.all.splice(this.all.indexOf(said), 1);
  }

  // Claiming

  #lane(priority: number): Position {
    let lane = this.#lanes.get(priority);
    if (lane === undefined) {
      lane = { late: [], main: [], ceiling: 0n };
      this.#lanes.set(priority, lane);
    }
    return lane;
  }

  /** What a claim gets; `claimed` and `put aside` are written down by it. */
  claim(worker: string, limit: number): readonly Said[] {
    for (const priority of [...this.#lanes.keys()].sort((a, b) => b - a)) {
      const got = this.#claimLane(priority, worker, limit);
      if (got.length > 0) return got;
    }
    return [];
  }

  #claimLane(priority: number, worker: string, limit: number): readonly Said[] {
    const at = this.#lane(priority);
    const next: Position = { late: [...at.late], main: [...at.main], ceiling: at.ceiling };
    let opened = false;
    let leftOut = false;
    for (;;) {
      const part = next.late.length > 0 ? next.late : next.main;
      if (part.length === 0) {
        if (opened) {
          if (leftOut) this.#moved(priority, next);
          return [];
        }
        opened = true;
        this.#openWindow(priority, next);
        continue;
      }
      const page = part.splice(0, limit);
      if (this.ordered) return this.#inOrder(priority, worker, next, part, page);
      const taken = unmark(page);
      leftOut ||= taken.length < page.length;
      if (taken.length === 0) continue;
      // Behind the late part, where there is room, comes the main part of the same window.
      if (part === next.late && page.length < limit) taken.push(...unmark(next.main.splice(0, limit - taken.length)));
      this.#moved(priority, next);
      this.#opened(worker, taken);
      return taken;
    }
  }

  #openWindow(priority: number, next: Position): void {
    const inLane = (said: Said) => said.row === 0 && said.priority === priority && !said.windowed;
    const unseen = this.all.filter((said) => inLane(said) && (said.at === "log" || said.marked));
    unseen.sort((a, b) => Number(a.id - b.id));
    next.late = unseen.filter(({ id }) => id <= next.ceiling);
    next.main = unseen.filter(({ id }) => id > next.ceiling);
    for (const { id } of this.all) if (id > next.ceiling) next.ceiling = id;
  }

  #moved(priority: number, next: Position): void {
    for (const said of [...next.late, ...next.main]) said.windowed = true;
    this.#lanes.set(priority, next);
  }

  #opened(worker: string, taken: readonly Said[]): void {
    for (const said of taken) {
      said.windowed = true;
      said.at = "claimed";
    }
    if (taken.length > 0) this.claims.push({ worker, open: new Set(taken), holding: new Set(taken) });
  }

  #inOrder(priority: number, worker: string, next: Position, part: Said[], page: Said[]): readonly Said[] {
    const held = this.#heldKeys();
    const cut = page.findIndex(({ key }) => key !== null && held.has(key));
    if (cut === 0) return [];
    if (cut > 0) part.unshift(...page.splice(cut));
    this.#moved(priority, next);
    const live = page.filter((said) => !said.marked);
    for (const said of page) {
      said.windowed = true;
      said.marked = false;
    }
    const waits = live.filter(({ key }) => key !== null && this.parked.has(key));
    for (const said of waits) {
      this.#wait(said, "parked", "never");
      said.line = this.tick();
      said.delivery = 2;
    }
    const taken = live.filter((said) => !waits.includes(said));
    this.#opened(worker, taken);
    return taken;
  }

  #heldKeys(): ReadonlySet<string | null> {
    return new Set(this.claims.flatMap(({ holding }) => [...holding].map(({ key }) => key)));
  }

  // Taking

  /** Before a take: what comes from outside and is due takes its place. */
  enter(): void {
    if (!this.ordered) return;
    const held = this.#heldKeys();
    const due = this.all.filter(({ at, line, due }) => at === "waiting" && line === null && due === "now");
    for (const said of due.sort(bySince)) {
      if (held.has(said.key)) continue;
      this.#turn(said);
      said.outside = false;
    }
  }

  /** What a worker may take: those that it may in any case, and suspects, of which it may take one when there is room. */
  takeable(worker: Iterable<Said>): { readonly plain: readonly Said[]; readonly suspects: readonly Said[] } {
    const blamed = [...worker].filter(({ at, crashes }) => at === "taken" && crashes >= 1);
    const below = blamed.some(({ crashes }) => crashes >= 2) ? 1 : 2;
    const due = this.all.filter(
      ({ at, due, line }) => at === "waiting" && due === "now" && (!this.ordered || line !== null),
    );
    const suspects = blamed.length === 0 ? due.filter(({ crashes }) => crashes >= 2) : [];
    return { plain: due.filter(({ crashes }) => crashes < below), suspects };
  }

  /** It was among those that a take has chosen. Whether it is delivered. */
  chosen(said: Said): boolean {
    if (said.asked) {
      this.#cancelled(said);
      this.promote(said.key);
      return false;
    }
    said.at = "taken";
    return true;
  }

  /** Why a message must not run now; undefined when it may. Of one claim its worker runs them one after the other: not checked for `claimed`. */
  mayNotRun(said: Said): string | undefined {
    if (!this.ordered) return undefined;
    const claim = this.claimOf(said);
    const here = (one: Said) => claim?.open.has(one) === true;
    const rival = this.all.find((one) => one !== said && one.key === said.key && isHeld(one) && !here(one));
    if (rival !== undefined) return `${rival.says} of its key runs`;
    const open = said.before.find((one) => !isEnded(one) && !this.#skipped(one) && !here(one));
    return open === undefined ? undefined : `${open.says}, which was said before it, is ${open.state}`;
  }

  #skipped(said: Said): boolean {
    return said.outside || (this.shape.ordering === "skip" && (said.at === "dead" || said.at === "invalid"));
  }

  // Ending

  /** A delivery has ended, with its consequence. */
  end(said: Said, outcome: Outcome, next: Next): void {
    const claim = this.claimOf(said);
    claim?.open.delete(said);
    if (this.shape.idempotency !== "transaction") claim?.holding.delete(said);
    if (claim?.open.size === 0) this.#close(claim);
    said.begun = false;
    const asked = said.asked;
    said.asked = false;
    const wasRow = said.at === "taken";
    if (asked && next !== null && next !== "unknown" && next !== "invalid") this.#cancelled(said);
    else if (next === null) said.at = outcome === "expired" ? "expired" : "succeeded";
    else if (typeof next === "object") this.#again(said, outcome, next);
    else this.#dead(said, next);
    if (wasRow) this.#letGo(said);
  }

  #again(said: Said, reason: Outcome, next: Exclude<Next, string | null>): void {
    this.#wait(said, reason, said.expired && next.defer === "later" ? "now" : next.defer);
    said.attempts = next.attempts;
    said.crashes = next.crashes;
    said.delivery += 1;
    if (this.ordered && said.key !== null) this.#turn(said);
  }

  #dead(said: Said, how: "dead" | "unknown" | "invalid"): void {
    said.at = how === "invalid" ? "invalid" : "dead";
    said.dueSince = this.tick();
    if (this.shape.ordering !== "park") said.line = null;
    else if (said.key !== null) {
      said.line ??= this.tick();
      this.parked.add(said.key);
    }
  }

  claimOf(said: Said): Claim | undefined {
    return said.at === "claimed" ? this.claims.find(({ open }) => open.has(said)) : undefined;
  }

  #close(claim: Claim): void {
    this.claims.splice(this.claims.indexOf(claim), 1);
  }

  #wait(said: Said, reason: Outcome, due: Due): void {
    said.at = "waiting";
    said.reason = reason;
    said.due = due;
    said.dueSince = this.tick();
    if (said.row === 0) said.row = this.tick();
  }

  /** The one that waited behind this delivery may run. */
  #letGo(said: Said): void {
    if (!said.onceMore) return;
    for (const one of this.all) if (one.at === "waiting" && one.behind === said.row) this.#free(one);
  }

  #free(said: Said): void {
    said.behind = null;
    said.due = "now";
    said.dueSince = this.tick();
  }

  #cancelled(said: Said): void {
    said.asked = false;
    said.at = "cancelled";
    this.#letGo(said);
  }

  // Order

  #turn(said: Said): void {
    if (said.key === null) return;
    this.parked.add(said.key);
    said.line ??= this.tick();
    if (this.#isBehind(said.key, said.line)) said.due = "never";
  }

  #isBehind(key: string, line: number): boolean {
    return this.all.some(
      (one) =>
        one.key === key &&
        one.line !== null &&
        one.line < line &&
        (one.isLive || one.at === "dead" || one.at === "invalid"),
    );
  }

  promote(key: string | null): void {
    if (key === null || !this.parked.has(key)) return;
    const first = this.#firstOf(key);
    if (first === undefined) {
      if (!this.#isBehind(key, Number.POSITIVE_INFINITY)) this.parked.delete(key);
    } else if (first.at === "waiting" && first.due === "never" && !this.#isBehind(key, first.line ?? 0)) {
      first.due = "now";
      first.dueSince = this.tick();
    }
  }

  #firstOf(key: string): Said | undefined {
    const waiting = this.all.filter((one) => one.key === key && one.line !== null && one.isLive);
    return waiting.sort((a, b) => (a.line ?? 0) - (b.line ?? 0))[0];
  }

  sweep(): void {
    for (const key of [...this.parked]) {
      const first = this.#firstOf(key);
      if (first === undefined || (first.at === "waiting" && first.due === "never")) this.promote(key);
    }
  }

  /** A claim was open too long: these run on, those wait. */
  spill(running: readonly Said[], waiting: readonly Said[]): void {
    for (const said of [...running, ...waiting]) {
      const claim = this.claimOf(said);
      claim?.open.delete(said);
      claim?.holding.delete(said);
      if (claim?.open.size === 0) this.#close(claim);
      this.#wait(said, "parked", "now");
      this.#turn(said);
      if (running.includes(said)) said.at = "taken";
      else said.delivery = 2;
    }
  }

  // Operators, and the passes of the fleet

  rescue(worker: string, taken: readonly Said[]): void {
    const suspects = taken.some(({ at, crashes }) => at === "taken" && crashes >= 2);
    const once = this.shape.idempotency === "at-most-once";
    for (const claim of this.claims.filter((one) => one.worker === worker)) {
      for (const said of [...claim.open]) this.#crashed(said, once && said.begun, !once);
    }
    for (const said of [...taken].sort((a, b) => a.row - b.row)) {
      if (said.at === "taken") this.#crashed(said, once, said.crashes >= 1 || !suspects);
    }
  }

  #crashed(said: Said, unknown: boolean, blamed: boolean): void {
    const crashes = said.crashes + (blamed ? 1 : 0);
    if (unknown || crashes >= 5) {
      said.crashes = crashes;
      if (unknown) said.attempts += 1;
      this.end(said, "crashed", unknown ? "unknown" : "dead");
    } else this.end(said, "crashed", { defer: "now", attempts: said.attempts, crashes });
  }

  redrive(said: Said): void {
    said.expires = false;
    said.expired = false;
    said.onceMore = false;
    said.attempts = 0;
    said.crashes = 0;
    said.delivery += 1;
    said.row = this.tick();
    said.behind = null;
    this.#wait(said, "released", "now");
    if (said.line !== null) this.#turn(said);
    else if (this.ordered) {
      // The others went on without it.
      said.outside = true;
      said.before = [];
      for (const one of this.all) one.before = one.before.filter((other) => other !== said);
    }
  }

  discard(said: Said): void {
    said.at = "discarded";
    if (said.line !== null) this.promote(said.key);
  }

  cancel(said: Said): "cancelled" | "signalled" | "too-late" {
    switch (said.at) {
      case "log":
        said.at = "cancelled";
        said.marked = true;
        return "cancelled";
      case "waiting":
        this.#cancelled(said);
        if (said.line !== null) this.promote(said.key);
        return "cancelled";
      case "claimed":
      case "taken":
        said.asked = true;
        return "signalled";
      default:
        return said.at === "cancelled" ? "cancelled" : "too-late";
    }
  }

  /** Waiting messages that somebody asked to cancel while they ran. */
  prune(): void {
    for (const said of this.all) if (said.at === "waiting" && said.asked) this.cancel(said);
  }

  tidy(): void {
    for (const said of this.all) {
      if (said.at !== "waiting" || said.behind === null) continue;
      if (!this.all.some(({ at, row }) => at === "taken" && row === said.behind)) this.#free(said);
    }
    this.requests.tidy();
  }

  /** The time of what waits has come. */
  pass(said: Said): void {
    if (said.at !== "waiting" || said.due !== "later") return;
    said.due = "now";
    said.dueSince = this.tick();
  }

  expire(said: Said): void {
    said.expired = true;
    if (said.at === "waiting" && said.due !== "now" && said.line === null) {
      said.due = "now";
      said.dueSince = this.tick();
    } else if (said.at === "waiting") this.pass(said);
  }
}

/** Those that nobody has cancelled; the marks of the others are used up. */
function unmark(page: readonly Said[]): Said[] {
  const taken = page.filter((said) => !said.marked);
  for (const said of page) said.marked = false;
  return taken;
}
