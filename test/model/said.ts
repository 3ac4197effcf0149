/** A message as the model of the engine knows it. */
import type { State } from "../../src/core/states.js";
import type { Dedupe } from "./requests.js";

export type Ordering = "none" | "park" | "skip";
export interface Shape {
  readonly idempotency: "handler" | "transaction" | "at-most-once";
  readonly ordering: Ordering;
}

export type At =
  | "open"
  | "log"
  | "claimed"
  | "waiting"
  | "taken"
  | Exclude<State, "queued" | "scheduled" | "retrying" | "parked" | "running">;
export type Due = "now" | "later" | "never";
export type Outcome =
  | "succeeded"
  | "failed"
  | "postponed"
  | "released"
  | "parked"
  | "crashed"
  | "rejected"
  | "invalid"
  | "expired";

export interface Options {
  readonly priority: number;
  readonly delayed: boolean;
  readonly expires: boolean;
  readonly dedupe: Dedupe | null;
}

/** A message. */
export class Said {
  readonly id: bigint;
  readonly publicId: string;
  readonly key: string | null;
  priority: number;
  /** The number in the payload: another one when a request with the same key has replaced it. */
  says: number;
  at: At;
  delivery = 1;
  attempts = 0;
  crashes = 0;
  due: Due = "now";
  /** Of what is due: which came first. */
  dueSince = 0;
  reason: Outcome | "scheduled" = "scheduled";
  /** Its place in the order of its key. */
  line: number | null = null;
  /** It was said with a time or with a key that keeps it changeable, and lies in no lane of the log. */
  apart = false;
  /** Where it waits; another one after a redrive. */
  row = 0;
  onceMore = false;
  behind: number | null = null;
  expires: boolean;
  expired = false;
  asked = false;
  marked = false;
  begun = false;
  windowed = false;
  /** A time or a redrive: it enters the order of its key when it is due, and nobody waits for it until then. */
  outside: boolean;
  /** The open transaction that it was said in. */
  transaction: number | undefined;
  /** Of its key: what must have ended before it may run. */
  before: readonly Said[] = [];

  constructor(place: { id: bigint; publicId: string }, says: number, key: string | null, options: Options, at: At) {
    this.id = place.id;
    this.publicId = place.publicId;
    this.says = says;
    this.key = key;
    this.priority = options.priority;
    this.expires = options.expires;
    this.outside = options.delayed;
    this.at = at;
  }

  get state(): State | "open" {
    switch (this.at) {
      case "log":
        return "queued";
      case "claimed":
      case "taken":
        return "running";
      case "waiting":
        if (this.line !== null && this.due === "never") return "parked";
        if (this.reason === "scheduled") return "scheduled";
        return this.reason === "released" || this.reason === "parked" ? "queued" : "retrying";
      default:
        return this.at;
    }
  }

  get isLive(): boolean {
    return this.at === "waiting" || this.at === "taken";
  }
}

/** What follows from an end. */
export type Next =
  | { readonly defer: "now" | "later"; readonly attempts: number; readonly crashes: number }
  | "dead"
  | "unknown"
  | "invalid"
  | null;

export function isEnded({ at }: Said): boolean {
  return at === "succeeded" || at === "cancelled" || at === "expired" || at === "discarded";
}

export function isHeld({ at }: Said): boolean {
  return at === "taken" || at === "claimed";
}

export function bySince(a: Said, b: Said): number {
  return a.dueSince - b.dueSince;
}
