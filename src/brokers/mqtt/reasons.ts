/** What the reason codes of MQTT 5 mean for a message. */
import { ConfigurationError } from "../../core/errors.js";
import type { Sent } from "../broker.js";

/** MQTT 5, 2.4: those in the answer to a PUBLISH or SUBSCRIBE, or in a goodbye of the broker. */
const words: Readonly<Record<number, string>> = {
  128: "unspecified error",
  129: "malformed packet",
  130: "protocol error",
  131: "an error of its own implementation",
  135: "not authorized",
  137: "server busy",
  139: "server shutting down",
  141: "keep alive timeout",
  142: "another connection has the same client id",
  143: "topic filter invalid",
  144: "topic name invalid",
  145: "packet identifier in use",
  147: "receive maximum exceeded",
  149: "packet too large",
  150: "message rate too high",
  151: "quota exceeded",
  152: "administrative action",
  153: "payload format invalid",
  155: "QoS not supported",
  156: "use another server",
  157: "server moved",
  158: "shared subscriptions not supported",
  159: "connection rate exceeded",
  162: "wildcard subscriptions not supported",
};

export const notAuthorized = 0x87;

function mayNotPublish(): ConfigurationError {
  const message = "The broker does not let this client publish to its topic: not authorized. Give its user the right.";
  return new ConfigurationError("PH_BROKER_DENIED", message);
}

export function reasonInWords(code: number | undefined): string {
  return code === undefined ? "no reason given" : (words[code] ?? `reason 0x${code.toString(16)}`);
}

/**
 * What an error in a PUBACK says about its message. With one topic for all of them, what concerns the topic or the right to it concerns every
 * message: it is the broker that does not take any.
 */
export function sentOf(code: number, { oneTopic }: { readonly oneTopic: boolean }): Sent {
  const reason = `the broker answered: ${reasonInWords(code)}`;
  const error = new Error(`The message was not taken: ${reason}.`);
  switch (code) {
    case 0x95:
    case 0x99:
      return { kind: "refused", reason };
    case 0x90:
      return oneTopic ? { kind: "unavailable", error } : { kind: "refused", reason };
    case notAuthorized:
      return oneTopic ? { kind: "unavailable", error: mayNotPublish() } : { kind: "failed", error };
    // It is full: so it is for the next message.
    case 0x97:
      return { kind: "unavailable", error };
    default:
      return { kind: "failed", error };
  }
}
