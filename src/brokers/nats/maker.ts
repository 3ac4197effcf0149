/**
 * Who has made a consumer: in its description, which every server keeps, is shown by its tools, and can be changed by whoever runs it. The metadata of
 * consumers are dropped by servers before 2.10.
 */
import type { Party } from "../broker.js";

const begin = "posthorn ";

/** `posthorn {"service":"shop","intake":"orders"}` */
export function describe({ service, name }: Party): string {
  return begin + JSON.stringify({ service, intake: name });
}

/** Undefined for a description of another kind, and for none: somebody has made the consumer by hand, or given it away. */
export function makerIn(description: string | undefined): Party | undefined {
  if (description?.startsWith(begin) !== true) return undefined;
  let said: unknown;
  try {
    said = JSON.parse(description.slice(begin.length));
  } catch {
    return undefined;
  }
  if (typeof said !== "object" || said === null) return undefined;
  const [service, name] = [Reflect.get(said, "service"), Reflect.get(said, "intake")];
  return typeof service === "string" && typeof name === "string" ? { service, name } : undefined;
}
