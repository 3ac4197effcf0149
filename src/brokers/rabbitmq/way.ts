/** What RabbitMQ says when nobody is let in, or a right is missing: one code for both, of the connection or of a channel. */
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import { toMend, type Way } from "../to-mend.js";
import type { Settings } from "./options.js";

export function wayOf({ address, secrets }: Settings): Way {
  return {
    broker: "RabbitMQ",
    where: hostAndPort(address),
    servers: [address],
    scheme: address.scheme,
    schemes: ["amqp", "amqps"],
    secrets,
    // A server without TLS answers to it with the version of its protocol, which Node takes for no TLS.
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
