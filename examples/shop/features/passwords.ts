/** Passwords: scrypt with a salt of its own for each, compared in constant time. */
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from "node:crypto";

/** One of the settings that OWASP names: 16 MB of memory for each check. */
const cost = { N: 2 ** 14, r: 8, p: 5 } as const;
const keyBytes = 32;

export const demoUser = {
  id: "5b0e7c6a-5c1f-4d5e-9a55-0d3b4f6f0a01",
  email: "ada@example.com",
  password: "brass and envelopes",
} as const;

/** `scrypt$16384$8$5$salt$key`: with its settings, so that they can be raised later. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, cost);
  return ["scrypt", cost.N, cost.r, cost.p, salt.toString("base64url"), key.toString("base64url")].join("$");
}

/** A user that does not exist costs as much time as a wrong password: nobody learns who has an account. */
export async function checkPassword(password: string, hash: string | undefined): Promise<boolean> {
  const [, N, r, p, salt = "", key = ""] = (hash ?? nobody).split("$");
  const expected = Buffer.from(key, "base64url");
  const derived = await derive(password, Buffer.from(salt, "base64url"), { N: Number(N), r: Number(r), p: Number(p) });
  return timingSafeEqual(derived, expected) && hash !== undefined;
}

/** No password gives this key. */
const nobody = ["scrypt", cost.N, cost.r, cost.p, "AAAAAAAAAAAAAAAAAAAAAA", "A".repeat(43)].join("$");

function derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // The same letters can be typed in two ways; NFKC makes them one.
    scrypt(password.normalize("NFKC"), salt, keyBytes, options, (error, key) => (error ? reject(error) : resolve(key)));
  });
}
