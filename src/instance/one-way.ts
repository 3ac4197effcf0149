/** Options of brokers that nothing of an instance reads: looked at when it starts, since a broker may be given to relays and intakes in any order. */
import type { Broker } from "../brokers/broker.js";
import { ConfigurationError } from "../core/errors.js";
import { quote } from "../core/show.js";

/** A relay or an intake of the instance, started or not. */
export interface BrokerUse {
  readonly way: "relay" | "intake";
  readonly name: string;
  readonly broker: Broker;
}

const words = { relay: "a relay", intake: "an intake" } as const;

/** Errors: `ConfigurationError` for an option that only the other way reads, where no declaration uses the broker that way. */
export function refuseUnread(uses: readonly BrokerUse[]): void {
  for (const { way, name, broker } of uses) {
    const { oneWay } = broker;
    const other = way === "relay" ? "intake" : "relay";
    const unread = oneWay?.[other] ?? [];
    const isShared = uses.some((use) => use.way === other && use.broker.oneWay === oneWay);
    if (unread.length === 0 || isShared) continue;
    const is = unread.length === 1 ? "is an option" : "are options";
    const message = `${way}(${quote(name)}) is given a broker with ${unread.join(", ")}, which ${is} for ${words[other]} alone, and no ${other} that is declared here uses this broker: nothing would come of it. Leave it out for this one.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { [way]: name, options: unread });
  }
}
