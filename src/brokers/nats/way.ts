/** What NATS says when nobody is let in, or a right is missing. The server says it in words alone; the client makes a class of each, and that is what is looked at. */
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { Hello, Plain } from "../probe.js";
import { toMend, type Way } from "../to-mend.js";
import type { Settings } from "./options.js";

/** The server begins, and says whether there is TLS. */
const plain: Plain = {
  says: new Uint8Array(),
  isAnswer: (got) => {
    const [line, ...rest] = got.toString("utf8").split("\r\n");
    if (line === undefined || rest.length === 0) return undefined;
    const info = /^INFO (\{.*\})\s*$/.exec(line)?.[1];
    return info !== undefined && !/"tls_(required|available)"\s*:\s*true/.test(info);
  },
};

/** It begins, with an error where it has too many clients. It is spoken to for the sake of others, which wait for that. */
const hello: Hello = {
  says: Buffer.from("PING\r\nPING\r\n"),
  isOne: (got) => (got.length < 6 ? undefined : /^(?:INFO |-ERR ')/.test(got.toString("latin1", 0, 6))),
};

export function wayOf({ address, secrets }: Settings): Way {
  return {
    broker: "NATS",
    where: hostAndPort(address),
    servers: [address],
    scheme: address.scheme,
    schemes: ["nats", "tls"],
    secrets,
    plain,
    hello,
    denied: (error) => {
      if (!(error instanceof Error)) return undefined;
      if (error.name === "PermissionViolationError") return "right";
      return ["AuthorizationError", "UserAuthenticationExpiredError"].includes(error.name) ? "credentials" : undefined;
    },
  };
}

/** What is passed on of an error: what is to be mended, or what the client says, without credentials. */
export function said(error: unknown, settings: Settings): unknown {
  return toMend(wayOf(settings), error) ?? withoutSecrets(error, settings.secrets);
}
