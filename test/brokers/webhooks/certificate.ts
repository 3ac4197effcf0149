/** A certificate of its own authority for a test, made at run time: no key lies in the repository. */
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

export interface Certificate {
  /** PEM, for the server; the certificate is also the authority that a client has to trust. */
  readonly key: string;
  readonly cert: string;
}

/** For these names and IPv4 addresses, valid from `from` for a day around the clock of now. */
export function certificateFor(
  hosts: readonly string[],
  validMs: { readonly from: number; readonly to: number },
): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"));
  const name = sequence(tlv(0x31, sequence(oid("550403"), tlv(0x0c, Buffer.from("posthorn test")))));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ecdsaWithSha256,
    name,
    sequence(time(validMs.from), time(validMs.to)),
    name,
    publicKey.export({ format: "der", type: "spki" }),
    tlv(
      0xa3,
      sequence(extension("551d13", sequence(tlv(0x01, Buffer.from([255])))), extension("551d11", namesOf(hosts))),
    ),
  );
  const signature = sign("sha256", body, privateKey);
  const der = sequence(body, ecdsaWithSha256, tlv(0x03, Buffer.from([0]), signature));
  const lines = (der.toString("base64").match(/.{1,64}/g) ?? []).join("\n");
  return {
    key: privateKey.export({ format: "pem", type: "pkcs8" }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
  };
}

const now = Date.now();
const day = 86_400_000;

/** For this machine, as the tests name it. */
export function ownCertificate(hosts: readonly string[] = ["127.0.0.1", "partner.example"]): Certificate {
  return certificateFor(hosts, { from: now - day, to: now + day });
}

export function expiredCertificate(): Certificate {
  return certificateFor(["127.0.0.1"], { from: now - 2 * day, to: now - day });
}

function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, ...parts);
}

function oid(hex: string): Buffer {
  return tlv(0x06, Buffer.from(hex, "hex"));
}

function time(ms: number): Buffer {
  return tlv(0x18, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]|\..*/g, "")}Z`));
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(oid(id), tlv(0x04, value));
}

function namesOf(hosts: readonly string[]): Buffer {
  const v4 = (host: string) => /^\d+(\.\d+){3}$/.test(host);
  return sequence(
    ...hosts.map((host) =>
      v4(host) ? tlv(0x87, Buffer.from(host.split(".").map(Number))) : tlv(0x82, Buffer.from(host)),
    ),
  );
}
