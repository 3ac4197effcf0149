/** From the headers and extensions of what comes in to the headers of the message that is stored: trace, cause, and what its producer gave it. */
import type { CloudEvent } from "../brokers/envelope.js";
import { PayloadTooLargeError } from "../core/errors.js";
import { toJson } from "../core/json.js";
import { limits } from "../core/limits.js";
import { causeFromOutside, causeHeader } from "../producer/cause.js";

type Texts = Readonly<Record<string, string>>;

/** The headers as JSON text; null where there are none. Errors: for text that cannot be stored, and for too many bytes. */
export function headersOf({ extensions, headers }: Pick<CloudEvent, "extensions" | "headers">): string | null {
  const { traceparent, tracestate } = extensions;
  const cause = causeFromOutside(extensions);
  let plain = headers;
  let isEmpty = true;
  // The library keeps it for itself; nobody outside is believed.
  for (const name of Object.keys(headers)) {
    isEmpty = false;
    if (name.toLowerCase().startsWith(causeHeader)) plain = without(plain, name);
  }
  if (traceparent === undefined && tracestate === undefined) {
    // Printable ASCII, and few letters.
    if (isEmpty) return cause === null ? null : `${causeBegin}${JSON.stringify(cause)}}`;
    if (cause === null) return encode(plain);
  }
  return encode({
    ...plain,
    ...(traceparent !== undefined && { traceparent }),
    ...(tracestate !== undefined && { tracestate }),
    ...(cause !== null && { [causeHeader]: cause }),
  });
}

const causeBegin = `{${JSON.stringify(causeHeader)}:`;

function without(headers: Texts, name: string): Texts {
  return Object.fromEntries(Object.entries(headers).filter(([other]) => other !== name));
}

function encode(headers: Texts): string | null {
  const json = JSON.stringify(headers);
  if (json === "{}") return null;
  // An escape may stand for what PostgreSQL cannot store: that is refused here.
  if (json.includes("\\u")) toJson(headers, "headers");
  const bytes = json.length * 3 <= limits.headersBytes ? 0 : Buffer.byteLength(json);
  if (bytes <= limits.headersBytes) return json;
  const message = `its headers have ${bytes} bytes as JSON; ${limits.headersBytes} are allowed`;
  throw new PayloadTooLargeError("PH_PAYLOAD_TOO_LARGE", message, { bytes });
}
