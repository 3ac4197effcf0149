/**
 * What Kafka's errors mean, and what to say of them. Decided on the numbers of the protocol, never on text.
 *
 * Source: the table of error codes of the Kafka protocol.
 */
import type { Sent } from "../broker.js";
import type { Plain } from "../probe.js";
import type { Denied } from "../to-mend.js";

/** Of the broker's answer for one message alone: it will not take it, whatever is done. */
const refusals: ReadonlyMap<number, string> = new Map([
  [32, "its time lies outside of what the topic takes"],
  [38, "the topic refuses it"],
  [44, "it breaks a policy of the topic"],
  [87, "the topic refuses the record: one without a key in a compacted topic, for instance"],
]);
/** The message, or the batch that it is in. */
const tooLarge: ReadonlySet<number> = new Set([10, 18]);

const denials: ReadonlyMap<unknown, Denied> = new Map<unknown, Denied>([
  // A mechanism that the broker does not have, credentials where it wants none, and credentials that it refuses.
  [33, "credentials"],
  [34, "credentials"],
  [58, "credentials"],
  // Of a topic, a group, the cluster.
  [29, "right"],
  [30, "right"],
  [31, "right"],
]);

/** What the broker says no to, if that is what this one error says. */
export function deniedBy(error: unknown): Denied | undefined {
  return denials.get(propertyOf(error, "apiCode"));
}

const correlation = [0x70, 0x68, 0x6b, 0x66];
/** The question for its versions, without a name: the answer to it begins with the number of the question, in any version of the protocol. */
export const plain: Plain = {
  says: Uint8Array.of(0, 0, 0, 10, 0, 18, 0, 0, ...correlation, 0xff, 0xff),
  isAnswer: (got) => (got.length < 8 ? undefined : correlation.every((byte, i) => got[4 + i] === byte)),
};

export type Verdict = "too large" | Sent;

/** What became of the messages of one partition, which the broker takes or leaves together. */
export function verdictOf(code: number, error: unknown): Verdict {
  if (code === 0) return { kind: "acknowledged" };
  if (tooLarge.has(code)) return "too large";
  const refusal = refusals.get(code);
  return refusal === undefined
    ? { kind: "unavailable", error }
    : { kind: "refused", reason: `Kafka refuses it: ${refusal}.` };
}

/** One error in words instead of the client's tree of attempts, servers and partitions. It keeps no response. */
export function inWords(what: string, error: unknown): Error {
  const leaves = leavesOf(error);
  const reasons = [...new Set(leaves.map(sentence))].slice(0, 5);
  const short = new Error(`${what}: ${reasons.join("; ")}`);
  const codes = new Set(leaves.map((leaf) => propertyOf(leaf, "code")));
  const [code] = codes.size === 1 ? codes : [propertyOf(error, "code")];
  return typeof code === "string" ? Object.assign(short, { code }) : short;
}

/** Whether one of the errors in it, at any depth, has a property. */
export function findIn(error: unknown, test: (one: unknown) => boolean): boolean {
  if (test(error)) return true;
  const inner = propertyOf(error, "errors");
  if (Array.isArray(inner) && inner.some((one) => findIn(one, test))) return true;
  const cause = propertyOf(error, "cause");
  return cause !== undefined && findIn(cause, test);
}

export function propertyOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && name in value ? Reflect.get(value, name) : undefined;
}

function leavesOf(error: unknown): readonly unknown[] {
  const inner = propertyOf(error, "errors");
  if (Array.isArray(inner) && inner.length > 0) return inner.flatMap(leavesOf);
  const cause = propertyOf(error, "cause");
  return cause === undefined ? [error] : leavesOf(cause);
}

function sentence(leaf: unknown): string {
  const id = propertyOf(leaf, "apiId");
  const message = leaf instanceof Error ? leaf.message : "an unknown error";
  return typeof id === "string" ? `${id}: ${message}` : message;
}
