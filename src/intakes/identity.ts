/** What a message that comes in is recognised by: 16 bytes that are the same whenever it comes again. */
import { hash } from "node:crypto";
import type { Incoming } from "../brokers/broker.js";
import { isNoText } from "../brokers/envelope.js";

/** They are told apart: an id of a CloudEvent is never taken for one that a broker gave. "content" is no identity: two messages may say the same. */
export type IdentityKind = "event" | "sender" | "position" | "content";

export interface Identity {
  readonly kind: IdentityKind;
  /** In hexadecimal. */
  readonly mark: string;
  /** Of an intake that was joined with others: what it was recognised by there. The same number for each message of an intake. */
  readonly former?: readonly string[] | undefined;
}

/** The first half of a SHA-256. Source and id may hold any letter; the length of the first says where the second begins. */
function markOf(prefix: string, id: string): string {
  return hash("sha256", prefix + id, "hex").slice(0, 32);
}

/** Of the messages of one intake. */
export class Identities {
  readonly #names: readonly string[];
  #source: string | undefined;
  #prefixes: readonly string[] = [];

  /** `names`: what marks are made of, that of what is taken in now first. An intake is born with its own name. */
  constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** Of a CloudEvent. Most have the source of the one before, so what is the same for all of a source is put together once. */
  ofEvent(source: string, id: string): Identity {
    if (source !== this.#source) {
      this.#source = source;
      this.#prefixes = this.#prefixesOf("event", source);
    }
    return identityOf("event", this.#prefixes, id);
  }

  /** By the id that its sender gave it. Of two brokers the same id is not the same message. */
  ofSender(where: string, id: string): Identity {
    return identityOf("sender", this.#prefixesOf("sender", where), id);
  }

  /** By what the broker says of a message: the id that its sender gave it and that is text, or its place. */
  at(where: string, { id, position }: Incoming): Identity | undefined {
    if (id !== undefined && id !== "" && !isNoText(id)) return this.ofSender(where, id);
    if (position === undefined || position === "") return undefined;
    return identityOf("position", this.#prefixesOf("position", where), position);
  }

  /** For what has no identity: to notice that the same bytes come again while somebody is to look at them. */
  ofContent({ headers, body }: Incoming): Identity {
    const bytes = hash("sha256", body, "hex");
    return identityOf("content", this.#prefixesOf("content", JSON.stringify(headers)), bytes);
  }

  #prefixesOf(kind: IdentityKind, source: string): readonly string[] {
    return this.#names.map((name) => `${name} ${kind} ${source.length} ${source} `);
  }
}

function identityOf(kind: IdentityKind, prefixes: readonly string[], id: string): Identity {
  const mark = markOf(prefixes[0] ?? "", id);
  if (prefixes.length === 1) return { kind, mark };
  return { kind, mark, former: prefixes.slice(1).map((prefix) => markOf(prefix, id)) };
}
