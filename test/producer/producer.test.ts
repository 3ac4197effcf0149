/**
 * The behaviour of the public interface, the same on every kind of database. One instance for each kind serves all suites: they stay
 * apart by the names of their runs.
 */
import { afterAll, describe, expect, test } from "vitest";
import { homes } from "./homes.js";
import { closeStages, stageOn } from "./stage.js";
import "./suites/saying.js";
import "./suites/transaction.js";
import "./suites/in.js";
import "./suites/asking.js";

afterAll(closeStages);

describe.each(homes)("after all of that on $name", (kind) => {
  test("nothing but failed attempts and invalid messages was worth a warning", async () => {
    const expected =
      /failed and is tried again|is a dead letter now|does not fit its schema|is no part of it|is one of its own/;
    expect((await stageOn(kind)).warnings.filter((warning) => !expected.test(warning))).toEqual([]);
  });
});
