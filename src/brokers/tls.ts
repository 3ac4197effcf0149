/** What a client may be told about TLS beside what Node knows by itself. A certificate that does not fit is an error always: that cannot be turned off. */
import type { Fields, OptionsOf } from "../core/options.js";
import { certificatesField, privateKeyField } from "./pem.js";

export const tlsFields = {
  ca: certificatesField("Who signs the certificate of the broker, as PEM, where that is nobody whom Node knows"),
  cert: certificatesField("The client's own certificate, as PEM"),
  key: privateKeyField("The key of `cert`, as PEM"),
  passphrase: { type: "string", doc: "What opens `key`", maxLength: 100_000, secret: true },
  servername: {
    type: "string",
    doc: "The name that the broker's certificate must have, where it is not the host of the address",
    maxLength: 255,
  },
} as const satisfies Fields;

export type TlsOptions = OptionsOf<typeof tlsFields>;

/** TLS names no server by its address. */
export function servernameOf(host: string): string | undefined {
  return /^[\d.]+$|:/.test(host) ? undefined : host;
}
