/** A certificate of its own for a service of the tests, signed by nobody else, for the loopback address. */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

export interface Certificate {
  /** Paths, as PEM. */
  readonly key: string;
  readonly cert: string;
  /** What a client must trust. */
  readonly pem: string;
}

/** To be called while the tests are collected. Removed when the test file ends. */
export function makeCertificate(): Promise<Certificate> {
  const folder = mkdtemp(join(tmpdir(), "posthorn-certificate-"));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));
  return folder.then(madeIn);
}

async function madeIn(folder: string): Promise<Certificate> {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const made = spawnSync("openssl", ["req", "-x509", ...kind, "-days", "2", ...subject, "-keyout", key, "-out", cert]);
  if (made.status !== 0) throw new Error(`openssl made no certificate: ${made.stderr ?? made.error}`);
  return { key, cert, pem: await readFile(cert, "utf8") };
}
