/** The registry of contracts and subscriptions in the database; conflicts come back as `ContractConflictError` with both parties. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

export interface ContractEntry {
  readonly kind: string;
  readonly name: string;
  readonly version: number;
  readonly channel: string;
  readonly keyed: boolean;
  readonly owner: string | null;
}

/** Ids of a registered contract and of its channel. */
export interface ContractIds {
  readonly contract: number;
  readonly channel: number;
  /** Of its channel. */
  readonly lanes: number;
}

/** Registers a contract, or holds us to what is registered. `publishes`: whoever publishes an event first owns it. */
export async function registerContract(
  executor: Executor,
  entry: ContractEntry,
  service: string,
  publishes: boolean,
): Promise<ContractIds> {
  const { rows } = await mapped(
    executor.query<{ ids: string }>(
      "select posthorn.register_contract($1::text, $2::int, $3::text::posthorn.kind, $4::text, $5::boolean, $6::text, $7::text, $8::boolean)::text as ids",
      [entry.name, entry.version, entry.kind, entry.channel, entry.keyed, entry.owner, service, publishes],
    ),
  );
  return JSON.parse(rows[0]?.ids ?? "null");
}

export interface TopicEntry {
  readonly name: string;
  readonly keepMs: number | undefined;
  readonly lanes: number | undefined;
}

/** Makes a topic, or holds us to the lanes that it has; the newest start wins for the time that it is kept. */
export async function registerTopic(executor: Executor, { name, keepMs, lanes }: TopicEntry, service: string) {
  await mapped(
    executor.query("select posthorn.register_topic($1::text, $2::float8, $3::int, $4::text)", [
      name,
      keepMs ?? null,
      lanes ?? null,
      service,
    ]),
  );
}

/** Makes the lane of a priority in a queue, where it is new. */
export async function makeLane(executor: Executor, channel: number, priority: number): Promise<void> {
  await mapped(executor.query("select posthorn.make_lane($1::int, $2::int)", [channel, priority]));
}

export interface SubscriptionEntry {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly idempotency: string;
  /** The policy as JSON text, for rescuers and tools that do not have the code. */
  readonly policy: string;
  /** Where a new reader of a topic begins; without it now. */
  readonly startFrom?: "now" | "oldest";
}

export interface SubscriptionIds {
  readonly subscription: number;
  readonly channel: number;
}

/** Who declares a policy. `again`: not by a start, but by a worker that registers anew; it changes nothing. */
export interface Declaring {
  readonly host: string;
  readonly pid: number;
  readonly library: string;
  readonly again: boolean;
}

/**
 * Registers a queue's or topic's reader with its policy, which is recorded. A new reader of a topic starts now, or with the oldest kept message.
 *
 * Errors: `ContractConflictError`: another service works on it (PH_CONTRACT_CONFLICT), or it is not drained (PH_NOT_DRAINED).
 */
export async function registerSubscription(
  executor: Executor,
  entry: SubscriptionEntry,
  service: string,
  by: Declaring | null = null,
): Promise<SubscriptionIds> {
  const { rows } = await mapped(
    executor.query<{ ids: string }>(
      "select posthorn.register_subscription($1::text, $2::text::posthorn.kind, $3::text, $4::text::posthorn.idempotency, $5::json, $6::text, $7::json, $8::text)::text as ids",
      [
        entry.name,
        entry.kind,
        entry.channel,
        entry.idempotency,
        entry.policy,
        service,
        by === null ? null : JSON.stringify(by),
        entry.startFrom ?? "now",
      ],
    ),
  );
  return JSON.parse(rows[0]?.ids ?? "null");
}
