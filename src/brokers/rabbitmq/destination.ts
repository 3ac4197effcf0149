/** Looks whether an exchange or a queue is there. Nothing is declared: what a queue is like is decided where the broker is run. */
import type { Channel } from "rabbitmq-client";
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { codeOf } from "./link.js";
import type { Route } from "./options.js";

/** Only what is the same for every event can be looked for. */
export async function checkRoute(channel: Channel, { exchange, routingKey }: Route, where: string): Promise<void> {
  if (typeof exchange !== "string") return;
  if (exchange !== "")
    await exists("exchange", exchange, where, () => channel.exchangeDeclare({ exchange, passive: true }));
  else if (typeof routingKey === "string") await checkQueue(channel, routingKey, where);
}

export async function checkQueue(channel: Channel, queue: string, where: string): Promise<void> {
  await exists("queue", queue, where, () => channel.queueDeclare({ queue, passive: true }));
}

async function exists(what: string, name: string, where: string, look: () => Promise<unknown>): Promise<void> {
  try {
    await look();
  } catch (error) {
    if (codeOf(error) !== "NOT_FOUND") throw error;
    const message = `RabbitMQ at ${where} has no ${what} ${quote(name)} in this virtual host. Declare it there: Posthorn declares nothing.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { [what]: name, where }, error);
  }
}
