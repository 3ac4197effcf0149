/**
 * One instance of a service on one database in one process: a second would double its connections and its concurrency, and is nearly
 * always a module that was loaded twice.
 */
import { ConfigurationError } from "../core/errors.js";

/** Names with their schemas. Keyed by the text of a URL or folder, or by the pool or PGlite object. */
const services = new Map<unknown, Set<string>>();

/** Claims the name until the returned function is called. */
export function claimService(service: string, database: unknown, schema: string): () => void {
  const name = `${schema} ${service}`;
  const taken = services.get(database) ?? new Set<string>();
  if (taken.has(name)) {
    throw new ConfigurationError(
      "PH_DECLARED_TWICE",
      `The service "${service}" has an instance on this database in this process already. Export that one and import it, or stop it first.`,
      { service },
    );
  }
  taken.add(name);
  services.set(database, taken);
  return () => {
    taken.delete(name);
    if (taken.size === 0) services.delete(database);
  };
}
