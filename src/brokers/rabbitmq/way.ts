/** What RabbitMQ says when nobody is let in, or a right is missing: one code for both, of the connection or of a channel. */
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { Hello } from "../probe.js";
import { toMend, type Way } from "../to-mend.js";
import type { Settings } from "./options.js";

/** The header of the protocol. It answers with the first method, in a frame of channel 0, or with the version that it has. The end of a line is for others, which wait for it. */
const hello: Hello = {
  says: Uint8Array.of(0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1, 13, 10),
  isOne: (got) =>
    got.length < 4 ? undefined : got.toString("latin1", 0, 4) === "AMQP" || got.readUIntBE(0, 3) === 0x010000,
};

export function wayOf({ address, secrets, tls = {} }: Settings): Way {
  return {
    broker: "RabbitMQ",
    where: hostAndPort(address),
    servers: [address],
    scheme: address.scheme,
    schemes: ["amqp", "amqps"],
    secrets,
    // A server without TLS answers to it with the version of its protocol, which Node takes for no TLS.
    hello,
    ...(address.scheme === "amqps" && { tls }),
    denied: (error) => {
      if (!(error instanceof Error) || !("code" in error) || error.code !== "ACCESS_REFUSED") return undefined;
      return error.name === "AMQPConnectionError" ? "credentials" : "right";
    },
  };
}

/** What is passed on of an error: what is to be mended, or what the client says, without credentials. */
export function said(error: unknown, settings: Settings): unknown {
  return toMend(wayOf(settings), error) ?? withoutSecrets(error, settings.secrets);
}
