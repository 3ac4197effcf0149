/** Values of attributes in headers that hold printable ASCII only: CloudEvents HTTP binding 1.0.2, 3.1.3.2, which the one for NATS refers to. */

/** Everything but printable ASCII, and of that the space, the quote and the percent sign. */
const toEncode = /[^\x21\x23\x24\x26-\x7e]/gu;
const anyToEncode = /[^\x21\x23\x24\x26-\x7e]/;
const encodedBytes = /(?:%[0-9a-fA-F]{2})+/g;
const loneSign = /%(?![0-9a-fA-F]{2})/;
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function percentEncode(value: string): string {
  if (!anyToEncode.test(value)) return value;
  return value
    .toWellFormed()
    .replace(toEncode, (char) =>
      [...Buffer.from(char)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
    );
}

/** Also from those who quote instead, as an older version said. Undefined: encoded bytes are not UTF-8, which must be rejected. */
export function percentDecode(value: string): string | undefined {
  const plain = unquoted(value);
  if (!plain.includes("%")) return plain;
  try {
    // The same where each sign begins two digits, in a tenth of the time.
    if (!loneSign.test(plain)) return decodeURIComponent(plain);
    return plain.replace(encodedBytes, (bytes) => strict.decode(Buffer.from(bytes.replaceAll("%", ""), "hex")));
  } catch {
    return undefined;
  }
}

/** RFC 7230, 3.2.6. */
function unquoted(value: string): string {
  if (value.length < 2 || !value.startsWith('"') || !value.endsWith('"')) return value;
  return value.slice(1, -1).replace(/\\(.)/gs, "$1");
}
