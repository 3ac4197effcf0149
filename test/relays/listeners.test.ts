/** A relay has many calls on their way at once, and each of them listens to the end of the relay. */
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import type { Outgoing } from "../../src/brokers/broker.js";
import { silentLogger } from "../../src/core/logger.js";
import { Connection } from "../../src/relays/connection.js";
import { Sending } from "../../src/relays/sending.js";
import { warningsOf } from "../support/warnings.js";
import { MemoryBroker } from "./memory-broker.js";

const outgoing = (n: number): Outgoing => ({
  key: null,
  event: { id: `${n}`, source: "urn:test", type: "Done", data: "{}", headers: {}, extensions: {} },
});

// The eleventh call made Node warn of a leak.
test("many calls of a relay at once make no warning of a leak, and leave no listener behind", async () => {
  const broker = new MemoryBroker();
  let letGo: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  broker.delay = () => held;
  const connection = new Connection({
    name: "out",
    service: "shop",
    to: broker,
    mode: "binary",
    ordered: true,
    once: false,
    timeoutMs: 60_000,
    logger: silentLogger,
  });
  const sender = () => connection.sender();
  const sending = new Sending({ sender, closed: connection.closed, timeoutMs: 60_000, once: false });
  const warnings = await warningsOf(async () => {
    const calls = Array.from({ length: 50 }, (_, n) => sending.send([outgoing(n)]));
    await expect.poll(() => broker.calls.length).toBe(50);
    letGo();
    expect((await Promise.all(calls)).flat().every(({ kind }) => kind === "acknowledged")).toBe(true);
  });
  expect(warnings).toEqual([]);
  expect(getEventListeners(connection.closed, "abort")).toHaveLength(0);
  await connection.close();
});
