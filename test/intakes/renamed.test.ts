/**
 * Goal: whoever renames an intake, moves it to another broker, or renames its service learns what is recognised and what is not.
 * Method: a memory broker that gives all it has once more under another name, as a stream whose consumer is new.
 */
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, listening, OrderPlaced, onServer, ShipOrder, stored, url } from "./stage.js";

onServer();

interface Starting {
  readonly into?: readonly (typeof OrderPlaced | typeof ShipOrder)[];
  readonly service?: string;
  /** What is started; all that is declared without it. */
  readonly started?: readonly string[];
}

let runs = 0;
/** Starts an instance with these intakes until all is taken in, and returns what it was warned of. */
async function run(brokers: Readonly<Record<string, MemoryBroker>>, options: Starting = {}): Promise<string[]> {
  const { into = [OrderPlaced], service = "shipping", started } = options;
  const { logger, told } = listening();
  runs += 1;
  const post = instance(service, logger, `${url()}?application_name=renamed-${runs}`);
  for (const [name, from] of Object.entries(brokers)) post.intake(name, { from, into });
  await post.start(started && { intakes: [...started] });
  const names = started ?? Object.keys(brokers);
  await eventually(() => names.every((name) => brokers[name]?.left === 0));
  await post.stop();
  return told.filter(({ level }) => level === "warn").map(({ message }) => message);
}

const order = (id: string) => cloudEvent("OrderPlaced", { orderId: id, cents: 1 }, { source: "urn:shop", id });
function brokerWith(where: string, ...ids: readonly string[]): MemoryBroker {
  const broker = new MemoryBroker(where);
  broker.put(...ids.map(order));
  return broker;
}
const times = async (id: string) => (await stored("OrderPlaced")).filter(({ key }) => key === id).length;

// Before, everything was handled once more and nothing said so.
test("a new intake that brings in what one did that is not declared any more is warned of before it begins, with the way out; and what the old one took in is written again", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  expect(await run({ [old]: brokerWith("one", anew) }, { service: "warned" })).toEqual([]);
  const warned = await run({ [anew]: brokerWith("one", anew) }, { service: "warned" });
  expect(warned).toEqual([
    `the intake "${anew}" is new, and brings in OrderPlaced as the intake "${old}" did, which is not declared here: what "${old}" took in is not recognised under another name, ` +
      `and is handled once more when the broker gives it again. If "${old}" was renamed or moved to another broker, stop what runs either and run posthorn intakes rename ${old} ${anew}: from then on it is recognised. ` +
      `If both are sources of their own, nothing is to be done. If "${old}" is gone for good: posthorn intakes remove ${old}`,
  ]);
  expect(await times(anew)).toBe(2);
  // It is known from now on.
  expect(await run({ [anew]: brokerWith("one", anew) }, { service: "warned" })).toEqual([]);
  expect(await times(anew)).toBe(2);
});

test("nothing is warned of where both are declared, of which one may be started elsewhere, where they share no contract, and where the other one is of another service", async () => {
  const [first, second, third, fourth, fifth] = ["a", "b", "c", "d", "e"].map(fresh) as [
    string,
    string,
    string,
    string,
    string,
  ];
  const service = fresh("quiet");
  expect(await run({ [first]: brokerWith("one") }, { service })).toEqual([]);
  expect(await run({ [first]: brokerWith("one"), [second]: brokerWith("two") }, { service })).toEqual([]);
  const beside = { [first]: brokerWith("one"), [second]: brokerWith("two"), [third]: brokerWith("three") };
  expect(await run(beside, { service, started: [third] })).toEqual([]);
  expect(await run({ [fourth]: brokerWith("four") }, { service, into: [ShipOrder] })).toEqual([]);
  expect(await run({ [fifth]: brokerWith("one") }, { service: fresh("other") })).toEqual([]);
});

test("an intake that keeps its name on another broker absorbs the events that it took in from the one before", async () => {
  const name = fresh("moved");
  await run({ [name]: brokerWith("nats/orders", `${name}-1`) }, { service: "moves" });
  const warned = await run({ [name]: brokerWith("redis/orders", `${name}-1`, `${name}-2`) }, { service: "moves" });
  expect(warned).toEqual([]);
  expect([await times(`${name}-1`), await times(`${name}-2`)]).toEqual([1, 1]);
});

// Before, the refusal said to give one of the two another name, under which everything would have been handled once more.
test("an intake of a service that was renamed starts once that of the old service is removed, as its refusal says, and absorbs what that took in", async () => {
  const name = fresh("owned");
  await run({ [name]: brokerWith("one", name) }, { service: "shop" });
  const renamed = () => run({ [name]: brokerWith("one", name) }, { service: "store" });
  await expect(renamed()).rejects.toThrow(
    `Where the service was renamed, or the other intake is gone from the code, stop its processes and remove it: posthorn intakes remove ${name}.`,
  );
  await instance("eye").operate.removeIntake(name, { by: "anna", confirm: name });
  expect(await renamed()).toEqual([]);
  expect(await times(name)).toBe(1);
  expect(await intakeRow(name)).toMatchObject({ service: "store", received: "1", written: "0" });
});
