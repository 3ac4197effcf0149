/**
 * Certificates and keys as texts in PEM. One that holds none is refused where it is written: Node would take it without a word, trust nobody by it, and every
 * connection would fail with another reason. What was given is never repeated.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { ConfigurationError } from "../core/errors.js";
import { show } from "../core/show.js";

const longest = 100_000;
const certificates =
  /-----BEGIN (?:(?:X509|TRUSTED) )?CERTIFICATE-----[\s\S]+?-----END (?:(?:X509|TRUSTED) )?CERTIFICATE-----/g;
const privateKeys = /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----[\s\S]+?-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----/g;
/** Whether its passphrase opens it is known when it is used. */
const locked = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED\s*$/m;

export const certificatesField = (doc: string) =>
  ({
    type: "custom",
    words: `certificates in PEM, at most ${longest} letters`,
    doc,
    check: checkCertificates,
  }) as const;

export const privateKeyField = (doc: string) =>
  ({ type: "custom", words: `a private key in PEM, at most ${longest} letters`, doc, check: checkPrivateKey }) as const;

/** One or more, each of which can be read. */
export function checkCertificates(value: unknown, path: string): string {
  const { text, found } = blocksOf(value, path, certificates, "certificate", "CERTIFICATE");
  for (const [i, one] of found.entries()) {
    if (reads(() => new X509Certificate(one))) continue;
    const which = found.length === 1 ? "a certificate" : `certificate ${i + 1} of ${found.length}`;
    refuse(path, `holds ${which} that cannot be read. Copy the whole file, with its line ends`);
  }
  return text;
}

/** The first one counts. */
export function checkPrivateKey(value: unknown, path: string): string {
  const { text, found } = blocksOf(value, path, privateKeys, "private key", "PRIVATE KEY");
  const [key = ""] = found;
  if (!locked.test(key) && !reads(() => createPrivateKey(key))) {
    refuse(path, "holds a private key that cannot be read. Copy the whole file, with its line ends");
  }
  return text;
}

function blocksOf(
  value: unknown,
  path: string,
  blocks: RegExp,
  what: string,
  label: string,
): { readonly text: string; readonly found: readonly string[] } {
  if (typeof value !== "string") return refuse(path, `must be the text of a ${what} in PEM, got ${show(value)}`);
  if (value.length > longest) return refuse(path, `has ${value.length} letters; ${longest} are allowed`);
  const found = value.match(blocks);
  if (found !== null) return { text: value, found };
  const begins = `-----BEGIN ${label}-----`;
  if (value.trim() === "") return refuse(path, `is blank. Give the text that begins with ${begins}, or leave it out`);
  return refuse(path, `holds no ${what} in PEM. Give the text that begins with ${begins}, not the name of its file`);
}

function reads(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch {
    return false;
  }
}

function refuse(path: string, problem: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${problem}.`, { path });
}
