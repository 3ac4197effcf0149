/** What the tests on NATS share beside the scene of all brokers. */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Incoming, OpenOptions, Receiver } from "../../src/brokers/broker.js";
import type { Place } from "./conformance.js";
import { never } from "./scene.js";

export async function clientOf(url: string, ca?: string): Promise<NatsConnection> {
  const { connect } = await import("@nats-io/transport-node");
  const { hostname, port, username, password } = new URL(url);
  const who = { user: username, pass: decodeURIComponent(password) };
  return connect({ servers: `${hostname}:${port}`, ...who, ...(ca !== undefined && { tls: { ca } }) });
}

export async function managerOf(client: NatsConnection): Promise<JetStreamManager> {
  const { jetstreamManager } = await import("@nats-io/jetstream");
  return jetstreamManager(client);
}

export async function makeStream({ url, destination }: Pick<Place, "url" | "destination">, ca?: string): Promise<void> {
  const client = await clientOf(url, ca);
  await (await managerOf(client)).streams.add({ name: destination, subjects: [`${destination}.*`] });
  await client.close();
}

export function consumerOf(manager: JetStreamManager, stream: string) {
  return manager.consumers.info(stream, "posthorn-receiver@shop");
}

export function opening(name: string, service = "shop"): OpenOptions {
  return { name, service, signal: never(), onTrouble: () => undefined };
}

export function acknowledged(count: number): readonly string[] {
  return Array.from({ length: count }, () => "acknowledged");
}

export function unavailable(count: number): readonly string[] {
  return Array.from({ length: count }, () => "unavailable");
}

export function namesOf(taken: readonly Incoming[]): readonly (string | undefined)[] {
  return taken.map(({ id }) => id?.split(" ")[0]);
}

/** Without acknowledging. */
export async function received(receiver: Receiver, count: number): Promise<readonly Incoming[]> {
  const taken: Incoming[] = [];
  while (taken.length < count) {
    taken.push(...(await receiver.receive({ max: count - taken.length, waitMs: 60_000, signal: never() })));
  }
  return taken;
}
