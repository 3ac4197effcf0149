/** The version of this library, as its package says, and how two of them compare. A test holds it and package.json together. */
export const libraryVersion = "0.1.0";

/**
 * The oldest version whose workers still work on the schema of this one. It is raised, with a major version, by a change of the schema that they
 * do not survive; see docs/internals/upgrades.md.
 */
export const oldestOnThisSchema = "0.1.0";

/** Below zero when `a` is older than `b`. What stands behind a hyphen does not count. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [numbersOf(a), numbersOf(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): readonly number[] {
  return (version.split("-")[0] ?? "").split(".").map(Number);
}
