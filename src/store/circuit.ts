/** The circuit breaker of a queue or subscription: what workers tell of it. Its rules are in sql/functions/15_breaker.sql. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** What a run means for the circuit. */
export type CircuitEvent =
  | { readonly failed: number; readonly said?: string }
  /** A handler opens it; null for as long as the policy says. `relay`: of which broker it is said. */
  | {
      readonly open: number | null;
      readonly reason: string;
      readonly relay?: { readonly broker: string; readonly where: string };
    }
  | { readonly succeeded: true }
  /** Neither: the next message is tried. */
  | { readonly passed: true; readonly said?: string };

/** `probe`: the token of the message that was tried; `said`: why that one did not succeed, for people. */
export type CircuitReport = CircuitEvent & { readonly probe?: string };

export interface CircuitChange {
  readonly changed: "opened" | "closed" | null;
  readonly openMs?: number | null;
  /** How long a failure counts, as the policy in the database says. */
  readonly windowMs?: number | null;
  /** Failed runs that opened it; null when a handler did. */
  readonly failures?: number | null;
  /** Probes that failed since it opened. */
  readonly probes?: number | null;
  readonly reason?: string | null;
  /** Of one that was closed: how long it was open, and how many messages wait for it, counted up to `mostCounted`. */
  readonly wasOpenMs?: number | null;
  readonly waiting?: number | null;
}

export const mostCounted = 10_000;

/** Tells what became of runs, in their order. */
export async function tellCircuit(
  executor: Executor,
  subscription: number,
  events: readonly CircuitReport[],
): Promise<CircuitChange> {
  const { rows } = await mapped(
    executor.query<{ change: string }>("select posthorn.circuit_hear($1::int, $2::json)::text as change", [
      subscription,
      JSON.stringify(events),
    ]),
  );
  return JSON.parse(rows[0]?.change ?? '{"changed":null}');
}

/** What people see of a circuit. Times are ISO 8601. */
export interface CircuitFacts {
  readonly state: "closed" | "open" | "half-open";
  /** When it opened, however often it was tried since. */
  readonly openedAt?: string;
  /** Failed runs that opened it; absent when a handler did. */
  readonly failures?: number;
  /** What was said last: by what opened it, or by the newest that was tried since and did not succeed. */
  readonly reason?: string;
  /** When that was said. */
  readonly reasonAt?: string;
  /** While open: when one message is tried; while half-open: since when. */
  readonly probeAt?: string;
  /** Probes that failed since it opened. */
  readonly probes?: number;
}
