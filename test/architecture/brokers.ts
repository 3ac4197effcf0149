/** docs/reference/brokers.md, made from the tables by which the conformance suite is switched. */
import { readFileSync } from "node:fs";
import type { BrokerFeatures } from "../../src/brokers/broker.js";
import { page, table } from "./reference.js";
import { root, sourcesIn } from "./sources.js";

const yes = (value: boolean) => (value ? "yes" : "no");

/** What each line asks. A line for each feature: the compiler misses one that is not here. */
const lines: {
  readonly [F in keyof Required<BrokerFeatures>]: readonly [string, (features: BrokerFeatures) => string];
} = {
  sends: ["can be the end of a relay", ({ sends }) => yes(sends)],
  receives: ["can be the beginning of an intake", ({ receives }) => yes(receives)],
  pushed: [
    "an intake of it runs in every process, since messages are pushed into each",
    ({ receives, pushed = false }) => (receives ? yes(pushed) : "-"),
  ],
  acknowledges: ["acknowledges each message that was sent to it", ({ acknowledges }) => yes(acknowledges)],
  order: [
    "keeps the order of",
    ({ order }) => ({ destination: "everything in one destination", key: "one key", none: "nothing" })[order],
  ],
  deduplicates: ["drops by itself what was sent twice", ({ deduplicates }) => yes(deduplicates)],
  checksDestination: ["a destination that is not there is noticed at start", (one) => yes(one.checksDestination)],
  stablePosition: [
    "a message has a place there, the same when it comes again",
    ({ stablePosition }) => yes(stablePosition),
  ],
  mode: ["CloudEvents travel, unless told otherwise, in", ({ mode }) => `${mode} mode`],
};

/** Every exported `…Features: BrokerFeatures` below src/brokers, by its name without that. */
export async function allFeatures(): Promise<ReadonlyMap<string, BrokerFeatures>> {
  const found = new Map<string, BrokerFeatures>();
  for (const { file } of sourcesIn("src/brokers")) {
    const text = readFileSync(root + file, "utf8");
    for (const [, name = ""] of text.matchAll(/^export const (\w+)Features: BrokerFeatures\b/gm)) {
      found.set(name, (await import(`${root}${file}`))[`${name}Features`]);
    }
  }
  return new Map([...found].sort(([one], [other]) => (one < other ? -1 : 1)));
}

export async function brokersPage(): Promise<string> {
  const brokers = await allFeatures();
  const rows = Object.values(lines).map(([words, tell]) => [words, ...[...brokers.values()].map(tell)]);
  return page("Brokers", [
    "What each broker can do, and what it cannot. The suite `test/brokers/conformance.ts` tests every line of it on the real broker\n" +
      "(`npm run test:brokers`), and on HTTP for `webhook`; what is sent to a `webhookIntake` is up to others, and its own tests look at it.\n" +
      "How to use them is in [brokers](../guides/brokers.md).",
    table(["", ...[...brokers.keys()].map((name) => `\`${name}\``)], rows),
  ]);
}
