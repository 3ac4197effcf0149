import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as errors from "../../src/core/errors.js";
import { limits } from "../../src/core/limits.js";
import { brokersPage } from "./brokers.js";
import { cliPage, errorsPage, limitMeanings, limitsPage, optionsPage, optionTables, statesPage } from "./reference.js";
import { root, sourcesIn } from "./sources.js";

const pages = {
  errors: errorsPage,
  options: optionsPage,
  states: statesPage,
  limits: limitsPage,
  cli: cliPage,
  brokers: brokersPage,
};

for (const [name, render] of Object.entries(pages)) {
  test(`docs/reference/${name}.md is what the tables in src say`, async () => {
    await expect(await render()).toMatchFileSnapshot(`${root}docs/reference/${name}.md`);
  });
}

test("every table of options that src exports is in the reference", () => {
  const exported = sourcesIn("src").flatMap(({ file }) =>
    [...readFileSync(root + file, "utf8").matchAll(/^export const (\w+Fields)\b/gm)].map(([, name = ""]) => name),
  );
  const listed = new Set(optionTables.map(({ source }) => source));
  expect(exported.length).toBeGreaterThan(0);
  expect([...new Set(exported)].sort()).toEqual([...listed].sort());
});

test("every limit has a comment that says what it limits", () => {
  expect([...limitMeanings().keys()]).toEqual(Object.keys(limits));
});

test("there are fewer than 25 classes of errors, each has a code, and each code names an existing class", () => {
  const named = new Set<string>(Object.values(errors.errorCodes).map((one) => one.class));
  const classes = Object.entries(errors)
    .filter(([, value]) => typeof value === "function" && value.prototype instanceof errors.PosthornError)
    .map(([name]) => name);
  expect(classes.length).toBeLessThan(25);
  expect([...named].sort()).toEqual(classes.sort());
  expect(Object.keys(errors.errorClasses).sort()).toEqual(classes);
});
