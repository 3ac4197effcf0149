/** A message as a CloudEvent. The same whenever it is sent again, so that the other side can drop it by `source` and `id`. */
import type { Outgoing } from "../brokers/broker.js";
import { type Cause, causeExtensions } from "../producer/cause.js";
import type { Message } from "../worker/context.js";

/** W3C Trace Context. */
const traceHeaders: ReadonlySet<string> = new Set(["traceparent", "tracestate"]);

export interface Naming {
  readonly source: string;
  readonly typePrefix: string;
}

/** `data`: the payload as it is stored. */
export function outgoingOf(
  data: string,
  message: Message,
  { source, typePrefix }: Naming,
  { depth, path }: Pick<Cause, "depth" | "path">,
): Outgoing {
  const { id, name, version, key, publishedAt, correlationId, causationId } = message;
  const { traces, headers } = split(message.headers);
  return {
    key,
    event: {
      id,
      source,
      type: `${typePrefix}${name}`,
      time: publishedAt.toISOString(),
      datacontenttype: "application/json",
      extensions: {
        ...(key !== null && { partitionkey: key }),
        [causeExtensions.correlation]: correlationId,
        ...(causationId !== null && { [causeExtensions.causation]: causationId }),
        // So that a ring of handlers that goes through several services ends as one within a service does.
        ...(depth > 0 && { [causeExtensions.depth]: String(depth), [causeExtensions.path]: path.join(">") }),
        contractversion: String(version),
        ...traces,
      },
      data,
      headers,
    },
  };
}

type Texts = Readonly<Record<string, string>>;

/** What has an attribute of its own does not travel twice. */
function split(given: Texts): { readonly traces: Texts; readonly headers: Texts } {
  const names = Object.keys(given);
  if (!names.some((name) => traceHeaders.has(name.toLowerCase()))) return { traces: {}, headers: given };
  const traces: Record<string, string> = {};
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const lower = name.toLowerCase();
    if (traceHeaders.has(lower)) traces[lower] = value;
    else headers[name] = value;
  }
  return { traces, headers };
}
