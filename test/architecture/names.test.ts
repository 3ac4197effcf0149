import { expect, test } from "vitest";
import { parseSource, type Source, sourcesIn } from "./sources.js";

/** Words for which the glossary has another. */
const refused: Readonly<Record<string, string>> = {
  job: "command",
  task: "command",
  consumer: "worker, handler or subscription",
  partition: "lane",
  manager: "the name of what it does",
  impl: "the name of what it does",
};

/** A broker has words of its own, and so has its client: a consumer of NATS is what NATS calls so. */
const ofBrokers: ReadonlySet<string> = new Set(["consumer", "partition", "manager", "impl"]);

/** What is named so gathers what does not belong together. */
const refusedFile = /(^|\/)(utils?|helpers?|common)(\/|\.ts$)/;

const wordsOf = (name: string): readonly string[] =>
  name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .split(/[^a-z]+/)
    .map((word) => word.replace(/s$/, ""));

function refusedNames(sources: readonly Source[]): readonly string[] {
  return sources.flatMap(({ file, names }) => [
    ...(refusedFile.test(file) ? [`${file}: ${file}: name it after what it does`] : []),
    ...[...names, ...file.split("/")].flatMap((name) =>
      wordsOf(name)
        .filter((word) => Object.hasOwn(refused, word) && !(file.startsWith("src/brokers/") && ofBrokers.has(word)))
        .map((word) => `${file}: ${name}: say ${refused[word]}`),
    ),
  ]);
}

test("no name in src uses a word for which the glossary has another", () => {
  expect(refusedNames(sourcesIn("src"))).toEqual([]);
});

test("the check of names finds a refused word inside of any name, and not inside of a longer word", () => {
  const text = "const runningJobs = 1; class TaskQueue { #consumer = 1; job_id = 2; } queueMicrotask(() => commonly);";
  const found = refusedNames([parseSource("src/core/utils/x.ts", text)]);
  expect(found.map((line) => line.split(": ")[1]).sort()).toEqual([
    "TaskQueue",
    "consumer",
    "job_id",
    "runningJobs",
    "src/core/utils/x.ts",
  ]);
});
