/** What the codes of Node say of TLS: the one list, for the database, for brokers and for webhooks. Decided on the code alone. */

export type TlsTrouble = "certificate" | "expired" | "name" | "agreement";

const certificate =
  /^(CERT_|CRL_|ERROR_IN_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|INVALID_CA$|INVALID_PURPOSE$|PATH_LENGTH_EXCEEDED$|ERR_TLS_CERT_)/;
const expired: ReadonlySet<string> = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);
const name: ReadonlySet<string> = new Set(["ERR_TLS_CERT_ALTNAME_INVALID", "HOSTNAME_MISMATCH"]);
/** The two sides do not understand each other; EPROTO is what an answer in no TLS is called while something is written. */
const agreement = /^(ERR_SSL_|ERR_TLS_|EPROTO$)/;

/** Undefined: it is not about TLS. A connection that is closed before TLS is agreed upon has another code, since nobody knows why. */
export function tlsTroubleOf(code: string): TlsTrouble | undefined {
  if (name.has(code)) return "name";
  if (expired.has(code)) return "expired";
  if (certificate.test(code)) return "certificate";
  return agreement.test(code) ? "agreement" : undefined;
}
