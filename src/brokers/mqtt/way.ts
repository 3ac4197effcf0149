/** What an MQTT broker says when nobody is let in: codes of CONNACK. */
import { hostAndPort } from "../address.js";
import type { Plain } from "../probe.js";
import type { Way } from "../to-mend.js";
import type { Settings } from "./options.js";

/** Of version 3.1.1 and of 5: bad user name or password, not authorized, banned, bad method. */
const credentials: ReadonlySet<unknown> = new Set([4, 5, 0x86, 0x87, 0x8a, 0x8c]);
/** CONNECT of version 3.1.1 without a name and a session: each broker answers with CONNACK, whether it lets anybody in or not. */
const plain: Plain = {
  says: Uint8Array.of(0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60, 0, 0),
  isAnswer: (got) => got[0] === 0x20,
};

export function wayOf({ address, secrets }: Settings): Way {
  return {
    broker: "The MQTT broker",
    where: hostAndPort(address),
    servers: [address],
    scheme: address.scheme,
    schemes: ["mqtt", "mqtts"],
    secrets,
    plain,
    // The end of a line is for others, which wait for it.
    hello: { says: Buffer.from([...plain.says, 13, 10]), isOne: (got) => got[0] === 0x20 || got[0] === 0xe0 },
    denied: (error) =>
      error instanceof Error && "code" in error && credentials.has(error.code) ? "credentials" : undefined,
  };
}
