/**
 * Goal: a message that a broker has acknowledged is in the log once and in its place, whenever the process that took it in was killed.
 * Method: the broker lives in this process, the intake in others that kill themselves between each two steps, one after another.
 */
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import type { Step } from "./fixtures/wire.js";
import { carried, cloudEvent } from "./memory-broker.js";
import { fresh, intakeRow, onServer, rows, stored, url } from "./stage.js";
import { wireServer } from "./wire-server.js";

onServer();

const messages = (count: number, source: string) =>
  Array.from({ length: count }, (_, n) => carried(cloudEvent("Counted", { n }, { source, id: `${n}` })));

function taker(settings: object): Promise<FixtureProcess> {
  return spawnFixture("test/intakes/fixtures/taker.ts", { args: [JSON.stringify({ url: url(), ...settings })] });
}

const numbers = async () => (await stored("Counted")).map(({ payload }) => (payload as { n: number }).n);

test("an intake that is killed between any two steps loses nothing, writes nothing twice, and keeps the order", async () => {
  const broker = await wireServer();
  const name = fresh("killed");
  const count = 1_200;
  broker.put(...messages(count, "urn:kills"));
  const steps: readonly (readonly [Step, number])[] = [
    ["received", 1],
    ["writing", 2],
    ["acknowledging", 2],
    ["acknowledged", 2],
    ["received", 3],
    ["writing", 1],
  ];
  for (const [diesAt, time] of steps) {
    const process = await taker({ port: broker.port, name, diesAt, time });
    expect(await process.exited, `${diesAt} ${time}`).toEqual({ code: null, signal: "SIGKILL" });
  }
  const last = await taker({ port: broker.port, name });
  await eventually(() => broker.left === 0);
  expect(await numbers()).toEqual(Array.from({ length: count }, (_, n) => n));
  expect(broker.given.some((times) => times > 1)).toBe(true);
  expect(await intakeRow(name)).toMatchObject({ written: String(count), invalid: "0" });
  last.say("stop");
  await last.line("stopped");
  expect(await intakeRow(name)).toMatchObject({ worker: null });
});

test("another process takes over what a killed one ran, and until then it does not open the broker", async () => {
  const broker = await wireServer();
  const name = fresh("taken-over");
  const first = await taker({ port: broker.port, name });
  await first.line("works");
  const second = await taker({ port: broker.port, name });
  await second.line("works");
  broker.put(...messages(100, "urn:first"));
  await eventually(() => broker.left === 0);
  expect(broker.connections).toBe(1);
  const [{ worker } = { worker: null }] = await rows<{ worker: string | null }>(
    "select worker::text from posthorn.intakes where name = $1",
    [name],
  );
  first.kill("SIGKILL");
  broker.put(...messages(100, "urn:second"));
  await eventually(() => broker.left === 0);
  expect(broker.connections).toBe(2);
  const [after] = await rows<{ worker: string; pid: number; connected: boolean }>(
    "select worker::text, pid, connected from posthorn.intakes where name = $1",
    [name],
  );
  expect(after?.worker).not.toBe(worker);
  expect(after?.pid).toBe(second.pid);
});
