/** Messages that are no CloudEvents, through the user's own function. */
import type { Incoming } from "../brokers/broker.js";
import { isNoText } from "../brokers/envelope.js";
import { show } from "../core/show.js";
import { Misfit } from "./misfit.js";
import type { ForeignMessage, ForeignReading, IntakeDeclaration } from "./options.js";

/** Whatever it threw or returned: that may hold what the message says. */
const kind = "refused by the function `read`";
const strict = new TextDecoder("utf-8", { fatal: true });

export function foreignOf({ headers, contentType, body, key, id, position }: Incoming): ForeignMessage {
  const text = (): string => strict.decode(body);
  return { headers, contentType, body, key, id, position, text, json: () => JSON.parse(text()) };
}

/** What the function says, checked. Errors: `Misfit`. */
export function readForeign(read: NonNullable<IntakeDeclaration["read"]>, incoming: Incoming): ForeignReading | null {
  let said: unknown;
  try {
    said = read(foreignOf(incoming));
  } catch (error) {
    throw new Misfit(`the function \`read\` threw: ${error instanceof Error ? error.message : show(error)}`, kind);
  }
  if (said === null) return null;
  if (said instanceof Promise) {
    said.catch(() => undefined);
    throw new Misfit("the function `read` returned a promise; it must be synchronous", kind);
  }
  if (typeof said !== "object" || said === undefined || !("name" in said) || typeof said.name !== "string") {
    throw new Misfit(`the function \`read\` returned ${show(said)} instead of { name, payload } or null`, kind);
  }
  const { name } = said;
  const payload = "payload" in said ? said.payload : undefined;
  const id = "id" in said ? said.id : undefined;
  if (id !== undefined && (typeof id !== "string" || id === "")) {
    throw new Misfit(`the function \`read\` returned ${show(id)} as the id; it must be a text that is not empty`, kind);
  }
  if (id !== undefined && isNoText(id)) {
    throw new Misfit(`the function \`read\` returned ${show(id)} as the id, which is not text in UTF-8`, kind);
  }
  return {
    name,
    payload,
    ...(id !== undefined && { id }),
    ...("headers" in said && { headers: textsOf(said.headers) }),
  };
}

function textsOf(headers: unknown): Readonly<Record<string, string>> {
  const entries = typeof headers === "object" && headers !== null ? Object.entries(headers) : undefined;
  if (entries === undefined || entries.some(([, value]) => typeof value !== "string")) {
    throw new Misfit(
      `the function \`read\` returned ${show(headers)} as headers; they must be an object of texts`,
      kind,
    );
  }
  return Object.fromEntries(entries);
}
