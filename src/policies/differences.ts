/** In what two policies differ: by the path of each part as data, and by decision in the words in which a policy is read back. */
import { decisionsInWords } from "./describe.js";
import { readStoredPolicy, storedPolicy } from "./policy.js";

/** A part of two values that is not the same in both; undefined where one has none. */
export interface Difference {
  readonly path: string;
  readonly was: unknown;
  readonly became: unknown;
}

/** A decision that is not the same in two policies. */
export interface PolicyDifference {
  /** As it is called in the policy: "retry", "alerts.backlog". */
  readonly decision: string;
  readonly was: unknown;
  readonly became: unknown;
  readonly wasInWords: string;
  readonly becameInWords: string;
}

/**
 * The decisions in which two stored policies differ. What a library left out that the other completes is no difference; a policy that this library cannot
 * read is compared as it is stored.
 */
export function policyDifferences(was: unknown, became: unknown, name: string): readonly PolicyDifference[] {
  const [old, fresh] = readBoth(was, became, name);
  return decisionDifferences(old, fresh);
}

/** The same of what was read already. */
export function decisionDifferences(old: Decisions, fresh: Decisions): readonly PolicyDifference[] {
  const decisions = new Set([...Object.keys(old.parts), ...Object.keys(fresh.parts)]);
  return [...decisions].flatMap((decision) => {
    const pair = { was: old.parts[decision], became: fresh.parts[decision] };
    const leaves = differences(pair.was, pair.became, decision);
    if (leaves.length === 0) return [];
    const [wasInWords, becameInWords] = [words(old, decision), words(fresh, decision)];
    if (wasInWords !== becameInWords) return [{ decision, ...pair, wasInWords, becameInWords }];
    // Words round, and leave out how waits are spread.
    const exact = (side: "was" | "became") => leaves.map((one) => `${one.path} ${shown(one[side])}`).join(", ");
    return [
      {
        decision,
        ...pair,
        wasInWords: `${wasInWords} (${exact("was")})`,
        becameInWords: `${becameInWords} (${exact("became")})`,
      },
    ];
  });
}

/** What differs, by the path of each part. */
export function differences(was: unknown, became: unknown, path = ""): readonly Difference[] {
  if (isRecord(was) && isRecord(became)) {
    const names = new Set([...Object.keys(was), ...Object.keys(became)]);
    return [...names].flatMap((name) => differences(was[name], became[name], path === "" ? name : `${path}.${name}`));
  }
  return JSON.stringify(was) === JSON.stringify(became) ? [] : [{ path, was, became }];
}

export function shown(value: unknown): string {
  return value === undefined ? "none" : typeof value === "string" ? value : JSON.stringify(value);
}

/** What was decided, as data and in words. */
export interface Decisions {
  /** By decision; alerts each by itself. */
  readonly parts: Readonly<Record<string, unknown>>;
  readonly words: ReadonlyMap<string, string>;
}

/** As this library understands them, or, where it cannot read one of them, as they are stored. */
function readBoth(was: unknown, became: unknown, name: string): readonly [Decisions, Decisions] {
  try {
    return [read(was, name), read(became, name)];
  } catch {
    return [
      { parts: partsOf(was), words: new Map() },
      { parts: partsOf(became), words: new Map() },
    ];
  }
}

function read(stored: unknown, name: string): Decisions {
  const policy = readStoredPolicy(stored, name);
  return { parts: partsOf(storedPolicy(policy)), words: decisionsInWords(policy) };
}

function partsOf(policy: unknown): Readonly<Record<string, unknown>> {
  if (!isRecord(policy)) return { policy };
  const { alerts, ...rest } = policy;
  const told = isRecord(alerts)
    ? Object.entries(alerts).map(([name, value]) => [`alerts.${name}`, value] as const)
    : [];
  return { ...rest, ...Object.fromEntries(told) };
}

function words({ parts, words: known }: Decisions, decision: string): string {
  return known.get(decision) ?? shown(parts[decision]);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
