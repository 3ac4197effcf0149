/** What a message that comes in is recognised by: 16 bytes that are the same whenever it comes again. */
import { hash } from "node:crypto";
import type { Incoming } from "../brokers/broker.js";

/** They are told apart: an id of a CloudEvent is never taken for one that a broker gave. "content" is no identity: two messages may say the same. */
export type IdentityKind = "event" | "sender" | "position" | "content";

export interface Identity {
  readonly kind: IdentityKind;
  /** In hexadecimal. */
  readonly mark: string;
}

/** The first half of a SHA-256. Source and id may hold any letter; the length of the first says where the second begins. */
export function identity(kind: IdentityKind, intake: string, source: string, id: string): Identity {
  return { kind, mark: markOf(prefixOf(kind, intake, source), id) };
}

function prefixOf(kind: IdentityKind, intake: string, source: string): string {
  return `${intake} ${kind} ${source.length} ${source} `;
}

function markOf(prefix: string, id: string): string {
  return hash("sha256", prefix + id, "hex").slice(0, 32);
}

/** `identity` of the CloudEvents of one intake. Most have the source of the one before, so what is the same for all of a source is put together once. */
export class EventIdentities {
  readonly #intake: string;
  #source: string | undefined;
  #prefix = "";

  constructor(intake: string) {
    this.#intake = intake;
  }

  of(source: string, id: string): Identity {
    if (source !== this.#source) {
      this.#source = source;
      this.#prefix = prefixOf("event", this.#intake, source);
    }
    return { kind: "event", mark: markOf(this.#prefix, id) };
  }
}

/** By what the broker says of a message: the id that its sender gave it, or its place. Of two brokers the same id is not the same message. */
export function identityAt(intake: string, where: string, { id, position }: Incoming): Identity | undefined {
  if (id !== undefined && id !== "") return identity("sender", intake, where, id);
  return position === undefined || position === "" ? undefined : identity("position", intake, where, position);
}

/** What a CloudEvent that was taken in is found by. */
export function markOfEvent(intake: string, source: string, id: string): string {
  return identity("event", intake, source, id).mark;
}

/** The same of what is known by the id that its sender gave it in the broker's own way. */
export function markOfSender(intake: string, where: string, id: string): string {
  return identity("sender", intake, where, id).mark;
}

/** For what has no identity: to notice that the same bytes come again while somebody is to look at them. */
export function identityOfContent(intake: string, { headers, body }: Incoming): Identity {
  const bytes = hash("sha256", body, "hex");
  return identity("content", intake, JSON.stringify(headers), bytes);
}
