/**
 * The name by which the other side knows an intake that was given none: a durable consumer, a session. One rule for all brokers.
 *
 * Two services may call their intakes alike, so it holds both, and no two parties have one name: a letter that not every broker allows in a name becomes its
 * code, and the sign between the two is such a letter itself.
 */
import { hash } from "node:crypto";
import type { Party } from "./broker.js";

/** Names on the other side become parts of paths and subjects there. */
const mostLetters = 120;
const letters = /[^A-Za-z0-9_-]/gu;

/** `posthorn-orders@shop`: the intake "orders" of the service "shop". */
export function readerName({ name, service }: Party): string {
  const full = `posthorn-${plain(name)}@${plain(service)}`;
  if (full.length <= mostLetters) return full;
  // What is cut off is told apart by its hash, behind a sign that no full name has.
  const mark = `~${hash("sha256", full, "hex").slice(0, 32)}`;
  return full.slice(0, mostLetters - mark.length) + mark;
}

function plain(part: string): string {
  return part.replace(letters, (letter) => `=${letter.codePointAt(0)?.toString(16)}=`);
}
