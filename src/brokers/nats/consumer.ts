/**
 * The durable consumer of an intake: found or made, and taken over.
 *
 * The stream remembers what it has sent and has no acknowledgement for, and sends it again when its time is up; what came later goes on meanwhile. That would
 * break the order when a reader dies. So whoever opens the consumer hands back first all that somebody else has left, and waits for that. Of two who read at
 * once each would get a part, and take the other's. So a consumer says who made it, and nothing of it is touched by another intake.
 */
import type { ConsumerInfo } from "@nats-io/jetstream";
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { hostAndPort } from "../address.js";
import type { Party } from "../broker.js";
import { readerName } from "../party.js";
import { Gap } from "./gap.js";
import { isConsumerMissing, isConsumerThere, type Link, streamOf } from "./link.js";
import { describe, makerIn } from "./maker.js";
import type { Settings } from "./options.js";
import { matches } from "./subjects.js";
import type { Left } from "./takeover.js";

export const handBack = "-NAK";
/** A consumer that is made lets so many be on their way without an acknowledgement. */
const mostUnacknowledged = 10_000;
/** More than so many are not handed back one by one: they come when their time is up. */
const mostHandedBack = 100_000;
const anew = "one that is not there yet is made, and begins at the start of the stream";

/** Errors: `ConfigurationError` where the stream is not there, or the consumer is of another kind. */
export async function openConsumer(link: Link, settings: Settings, party: Party): Promise<OpenConsumer> {
  const { config } = await streamOf(link, settings);
  checkFilter(settings, config.subjects ?? []);
  const { info, made } = await foundOrMade(link, settings, party);
  checkMaker(info, settings, party);
  checkKind(info, settings);
  await takeOver(link, info);
  return {
    info,
    made,
    gap: Gap.of(info, config),
    left: { until: info.delivered.stream_seq, count: info.num_ack_pending },
  };
}

export interface OpenConsumer {
  readonly info: ConsumerInfo;
  /** It was not there: the stream is read from its beginning. */
  readonly made: boolean;
  /** What others were sent and have not acknowledged. */
  readonly left: Left;
  /** Undefined where nothing can be said of what is missing. */
  readonly gap: Gap | undefined;
}

function checkFilter({ subject, stream, address }: Settings, subjects: readonly string[]): void {
  // One with wildcards may stand for a part of what the stream takes; the server says whether it does.
  if (typeof subject !== "string" || /[*>]/.test(subject)) return;
  if (subjects.length === 0 || subjects.some((pattern) => matches(pattern, subject))) return;
  const where = hostAndPort(address);
  const message = `The stream ${stream} of NATS at ${where} does not take the subject ${subject}; it takes ${subjects.join(", ")}.`;
  throw new ConfigurationError("PH_BROKER_DESTINATION", message, { stream, subject, where });
}

async function foundOrMade(
  { manager }: Link,
  settings: Settings,
  party: Party,
): Promise<Pick<OpenConsumer, "info" | "made">> {
  const name = settings.consumer ?? readerName(party);
  try {
    return { info: await manager.consumers.info(settings.stream, name), made: false };
  } catch (error) {
    if (!isConsumerMissing(error)) throw error;
  }
  const { subject, ackWaitMs } = settings;
  const wanted = {
    durable_name: name,
    description: describe(party),
    ack_policy: "explicit" as const,
    deliver_policy: "all" as const,
    ack_wait: ackWaitMs * 1_000_000,
    max_ack_pending: mostUnacknowledged,
    ...(typeof subject === "string" && { filter_subject: subject }),
  };
  try {
    return { info: await manager.consumers.add(settings.stream, wanted), made: true };
  } catch (error) {
    if (!isConsumerThere(error)) throw error;
    return { info: await manager.consumers.info(settings.stream, name), made: false };
  }
}

/** One that was made by hand may be read by whoever is told its name. */
function checkMaker({ name, config }: ConsumerInfo, { stream, address }: Settings, party: Party): void {
  const maker = makerIn(config.description);
  if (maker === undefined || (maker.service === party.service && maker.name === party.name)) return;
  const where = hostAndPort(address);
  const named = ({ name: intake, service }: Party) => `the intake ${quote(intake)} of the service ${quote(service)}`;
  const message = `The consumer ${quote(name)} of the stream ${stream} of NATS at ${where} was made by ${named(maker)}, and ${named(party)} would take a part of its messages. Name another consumer, or none: ${anew}. If the other one has ended and this one goes on in its place, give the consumer the description ${describe(party)}`;
  throw new ConfigurationError("PH_BROKER_DESTINATION", message, { stream, consumer: name, where, maker, party });
}

function checkKind({ name, config }: ConsumerInfo, { stream, subject }: Settings): void {
  const refuse = (what: string): never => {
    const message = `The consumer ${quote(name)} of the stream ${stream} ${what}. Name another one, or none: ${anew}.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { stream, consumer: name });
  };
  if (config.deliver_subject !== undefined) refuse("is a push consumer, and an intake pulls");
  // "all" would settle, with the last of a batch, what another reader was given before it and has not stored.
  if (config.ack_policy !== "explicit") {
    refuse(`has the acknowledgement policy "${config.ack_policy}", and an intake needs "explicit"`);
  }
  if (config.headers_only === true) {
    refuse("gives headers without what the messages say (headers_only), and an intake would store them empty");
  }
  if (typeof subject !== "string" || subject === config.filter_subject) return;
  refuse(`takes ${config.filter_subject ?? "all subjects"}, and nats.subject says ${subject}`);
}

/** Tells the stream, in the name of whoever was here before, that what it has sent and heard nothing of was not done. */
async function takeOver({ connection }: Link, info: ConsumerInfo): Promise<void> {
  if (info.num_ack_pending === 0) return;
  const { stream_name: stream, name, ack_floor: floor, delivered } = info;
  const from = Math.max(floor.stream_seq + 1, delivered.stream_seq - mostHandedBack + 1);
  for (let sequence = from; sequence <= delivered.stream_seq; sequence += 1) {
    // The subject of an acknowledgement: deliveries, sequence in the stream, of the delivery, time, what is left. The server looks at the sequence.
    connection.publish(`$JS.ACK.${stream}.${name}.1.${sequence}.${delivered.consumer_seq}.0.0`, handBack);
  }
  await connection.flush();
}
