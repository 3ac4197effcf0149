/** What a database is called in front of people, and whether it is on this machine. */
import { resolve } from "node:path";
import type { DatabaseInput } from "../../databases/open.js";

export interface Place {
  /** Holds no password. */
  readonly database: string;
  /** Of an embedded database. */
  readonly folder?: string;
}

const embedded = "embedded:";
const local = /^(localhost|127(\.\d+){3}|\[?::1\]?)$/;

export function placeOf(database: DatabaseInput): Place {
  if (typeof database !== "string") return { database: "totalCount" in database ? "a pg.Pool" : "PGlite" };
  if (database.startsWith(embedded)) {
    const folder = resolve(database.slice(embedded.length));
    return { database: `${embedded}${folder}`, folder };
  }
  const url = URL.canParse(database) ? new URL(database) : undefined;
  return { database: url === undefined ? "a server" : `postgres://${url.host}${url.pathname}` };
}

/**
 * Whether it belongs to this machine: embedded, PGlite, or a server on the loopback address. A pool may lead anywhere.
 *
 * A URL may name its host in `?host=`, as one for a unix socket does.
 */
export function isHere(database: DatabaseInput): boolean {
  if (typeof database !== "string") return !("totalCount" in database);
  if (database.startsWith(embedded)) return true;
  if (!URL.canParse(database)) return false;
  const url = new URL(database);
  // As the driver chooses it.
  const host = url.searchParams.get("host") ?? (url.hostname || (process.env.PGHOST ?? "localhost"));
  return host.startsWith("/") || local.test(host);
}
