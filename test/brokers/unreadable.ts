/** Addresses that no broker can read, made of one that it can. Each holds the password that must not be repeated. */
import { secret } from "./scene.js";

export function unreadable(scheme: string): readonly string[] {
  const who = `somebody:${secret}`;
  return [
    `${scheme}//${who}@127.0.0.1:1`,
    `gopher://${who}@127.0.0.1:1`,
    `${scheme}://${who}@127.0.0.1:99999`,
    `${scheme}://${who}@`,
    `${scheme}://${who}%@127.0.0.1:1`,
  ];
}
