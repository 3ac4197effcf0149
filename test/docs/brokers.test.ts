/** The code of docs/guides/brokers.md is what it says; its blocks are compared with it in excerpts.test.ts. */
import { expect, test } from "vitest";
import { allFeatures } from "../architecture/brokers.js";
import { sourcesIn } from "../architecture/sources.js";
import { orders, shipments } from "./examples/brokers.js";
import { pagesIn } from "./pages.js";

const url = "mqtts://shop:password@broker.example";

test("the guide about brokers: each example makes a broker, and none tells the password", () => {
  for (const broker of [orders(url), shipments(url)]) {
    expect(broker.kind).toBe("mqtt");
    expect(broker.where).toMatch(/^broker\.example:8883\//);
    expect(broker.where).not.toContain("password");
  }
});

test("the guide about brokers has a section for each that is in the table of features", async () => {
  const page = pagesIn("docs/guides").find(({ file }) => file.endsWith("/brokers.md"));
  const headings =
    page?.text.match(/^## .+$/gm)?.map((line) =>
      line
        .slice(3)
        .toLowerCase()
        .replace(/[^a-z]/g, ""),
    ) ?? [];
  const missing = [...(await allFeatures()).keys()].filter(
    (name) => !headings.some((heading) => heading.includes(name.toLowerCase().replace(/intake$/, ""))),
  );
  expect(missing).toEqual([]);
});

test("what the table of features says of a broker is what a suite in test/brokers expects of it", async () => {
  const tests = sourcesIn("test/brokers").filter(({ file }) => file.endsWith(".test.ts"));
  const missing = [...(await allFeatures()).keys()].filter(
    (name) => name !== "webhookIntake" && !tests.some(({ names }) => names.has(`${name}Features`)),
  );
  expect(missing).toEqual([]);
});
