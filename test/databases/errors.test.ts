import { describe, expect, test } from "vitest";
import { InternalError } from "../../src/core/errors.js";
import { databaseError } from "../../src/databases/errors.js";

const server = (code: string) => Object.assign(new Error("said by the server"), { code, severity: "FEHLER" });
const node = (code: string) => Object.assign(new Error("said by the system"), { code });

describe("errors of the server are typed by SQLSTATE", () => {
  test.each([
    ["08006", "PH_DATABASE_LOST"],
    ["08001", "PH_DATABASE_AWAY"],
    ["25006", "PH_DATABASE_READ_ONLY"],
    ["28P01", "PH_DATABASE_REFUSED"],
    ["28000", "PH_DATABASE_REFUSED"],
    ["3D000", "PH_DATABASE_REFUSED"],
    ["42501", "PH_DATABASE_REFUSED"],
    ["53100", "PH_DATABASE_FULL"],
    ["53200", "PH_DATABASE_FULL"],
    ["53300", "PH_DATABASE_BUSY"],
    ["57014", "PH_DATABASE_TIMEOUT"],
    ["57P01", "PH_DATABASE_LOST"],
    ["57P03", "PH_DATABASE_AWAY"],
    ["25P03", "PH_DATABASE_LOST"],
  ])("%s is %s", (sqlState, code) => {
    const cause = server(sqlState);
    expect(databaseError(cause)).toMatchObject({ code, cause, facts: { sqlState } });
  });

  test.each(["23505", "40001", "42P01", "PH001", "22012"])("%s comes back unchanged", (sqlState) => {
    const error = server(sqlState);
    expect(databaseError(error)).toBe(error);
    expect(databaseError(error, { connection: "lost" })).toBe(error);
  });
});

describe("errors of the network are typed by code", () => {
  test.each([
    ["ECONNREFUSED", "PH_DATABASE_AWAY"],
    ["ENOTFOUND", "PH_DATABASE_AWAY"],
    ["ECONNRESET", "PH_DATABASE_LOST"],
    ["EPIPE", "PH_DATABASE_LOST"],
    ["ETIMEDOUT", "PH_DATABASE_LOST"],
  ])("%s is %s", (given, code) => {
    expect(databaseError(node(given))).toMatchObject({ code, retryable: true });
  });

  test("while connecting all of them mean that the database is away, and a bad certificate is refused", () => {
    const context = { connection: "unreached" } as const;
    expect(databaseError(node("ETIMEDOUT"), context)).toMatchObject({ code: "PH_DATABASE_AWAY" });
    expect(databaseError(new Error("no code at all"), context)).toMatchObject({ code: "PH_DATABASE_AWAY" });
    expect(databaseError(node("SELF_SIGNED_CERT_IN_CHAIN"), context)).toMatchObject({ code: "PH_DATABASE_REFUSED" });
    expect(databaseError(server("53300"), context)).toMatchObject({ code: "PH_DATABASE_BUSY" });
  });

  test("an error without a code is lost only when the connection was seen to end", () => {
    const error = new Error("Connection terminated unexpectedly");
    expect(databaseError(error)).toBe(error);
    expect(databaseError(error, { connection: "lost" })).toMatchObject({ code: "PH_DATABASE_LOST", cause: error });
  });
});

test("errors that are typed already and values that are no errors are kept", () => {
  const typed = new InternalError("PH_INTERNAL", "x");
  expect(databaseError(typed, { connection: "lost" })).toBe(typed);
  expect(databaseError("thrown text")).toMatchObject({ message: "thrown text", cause: "thrown text" });
});
