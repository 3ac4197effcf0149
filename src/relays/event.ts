/** A message as a CloudEvent. The same whenever it is sent again, so that the other side can drop it by `source` and `id`. */
import type { Outgoing } from "../brokers/broker.js";
import { setHeader } from "../brokers/header-names.js";
import { causeExtensions, causeOf, headersWithoutCause } from "../producer/cause.js";
import type { Carried } from "../worker/carrier.js";
import type { RelayTypes } from "./types.js";

/** W3C Trace Context. */
const traceHeaders: ReadonlySet<string> = new Set(["traceparent", "tracestate"]);

export interface Naming {
  readonly source: string;
  readonly types: RelayTypes;
}

type Texts = Readonly<Record<string, string>>;
const none: Texts = {};

/** The payload goes as it is stored: as its text. */
export function outgoingOf({ id, delivery, contract }: Carried, { source, types }: Naming): Outgoing {
  const { key, payload, publishedAt } = delivery;
  const { extensions, headers } = aroundOf(delivery, id, String(contract.version));
  return {
    key,
    event: {
      id,
      source,
      type: types.of(contract),
      time: new Date(publishedAt).toISOString(),
      datacontenttype: "application/json",
      extensions,
      data: String(payload),
      headers,
    },
  };
}

interface Around {
  readonly extensions: Texts;
  readonly headers: Texts;
}

function aroundOf(delivery: Carried["delivery"], id: string, contractversion: string): Around {
  const { key } = delivery;
  // Most have no headers, and began what they are part of. The path of every message: written out.
  if (delivery.headers === null) {
    const correlationid = id;
    const extensions =
      key === null ? { correlationid, contractversion } : { partitionkey: key, correlationid, contractversion };
    return { extensions, headers: none };
  }
  const { depth, correlationId, causationId, path } = causeOf(delivery);
  const { traces, headers } = split(headersWithoutCause(delivery));
  const extensions = {
    ...(key !== null && { partitionkey: key }),
    [causeExtensions.correlation]: correlationId ?? id,
    ...(causationId !== null && { [causeExtensions.causation]: causationId }),
    // So that a ring of handlers that goes through several services ends as one within a service does.
    ...(depth > 0 && { [causeExtensions.depth]: String(depth), [causeExtensions.path]: path.join(">") }),
    contractversion,
    ...traces,
  };
  return { extensions, headers };
}

/** What has an attribute of its own does not travel twice. */
function split(given: Texts): { readonly traces: Texts; readonly headers: Texts } {
  const names = Object.keys(given);
  if (!names.some((name) => traceHeaders.has(name.toLowerCase()))) return { traces: {}, headers: given };
  const traces: Record<string, string> = {};
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const lower = name.toLowerCase();
    if (traceHeaders.has(lower)) traces[lower] = value;
    else setHeader(headers, name, value);
  }
  return { traces, headers };
}
