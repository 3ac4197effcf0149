/**
 * What caused a message: carried from a message to what its handler says, as one header of ours. A message that nobody's handler said has none, and
 * costs nothing.
 *
 * The depth is bounded, so that handlers which cause each other's messages in a ring end with an error that names them, and not with a full disk.
 */
import type { AnyContract } from "../contracts/contract.js";
import { errorOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";

/** The header. Its value: depth, correlation ("-" where it is the cause itself), cause, and the names of the last contracts before it. */
export const causeHeader = "~posthorn";

export interface Cause {
  /** How many handlers lie between this message and what began it all; 0 where nobody's handler said it. */
  readonly depth: number;
  /** The message that began it all, and the one whose handler said this; null where nobody's handler said it. */
  readonly correlationId: string | null;
  readonly causationId: string | null;
  readonly path: readonly string[];
}

const none: Cause = { depth: 0, correlationId: null, causationId: null, path: [] };
const shape = /^(\d{1,6}) (-|[\da-f-]{1,40}) ([\da-f-]{1,40}) ([A-Za-z\d>]+)$/;

type Headed = Pick<Delivery, "headers">;

/** A header that nobody of ours wrote counts as none. */
export function causeOf({ headers }: Headed): Cause {
  const [, depth, correlation, causationId, path] = shape.exec(headers?.[causeHeader] ?? "") ?? [];
  if (depth === undefined || causationId === undefined || path === undefined) return none;
  const correlationId = correlation === undefined || correlation === "-" ? causationId : correlation;
  return { depth: Number(depth), correlationId, causationId, path: path.split(">") };
}

/** The headers that a producer gave. */
export function headersWithoutCause({ headers }: Headed): Readonly<Record<string, string>> {
  if (headers === null) return {};
  const { [causeHeader]: _ours, ...theirs } = headers;
  return theirs;
}

/** Of what one handler says. */
export class Causing {
  readonly #depth: number;
  readonly #limit: number;
  readonly #path: readonly string[];
  readonly #text: string;

  /** Of several messages that one call handles, the deepest counts. There is at least one. */
  constructor(deliveries: readonly Delivery[], contract: string, limit: number) {
    let deepest = none;
    let from: Delivery | undefined;
    for (const delivery of deliveries) {
      const cause = causeOf(delivery);
      if (from !== undefined && cause.depth <= deepest.depth) continue;
      deepest = cause;
      from = delivery;
    }
    const causation = from === undefined ? "0" : publicId(from);
    this.#depth = deepest.depth + 1;
    this.#limit = limit;
    this.#path = [...deepest.path, contract].slice(-limits.causationNames);
    const value = `${this.#depth} ${deepest.correlationId ?? "-"} ${causation} ${this.#path.join(">")}`;
    this.#text = `${JSON.stringify(causeHeader)}:${JSON.stringify(value)}`;
  }

  /** Errors: PH_CAUSATION_DEPTH, with the names of the chain. */
  check({ name }: AnyContract): void {
    if (this.#depth <= this.#limit) return;
    const chain = [...this.#path, name];
    const first = chain.lastIndexOf(name, chain.length - 2);
    const ring = first < 0 ? chain : chain.slice(first);
    const shown = `${first < 0 && this.#depth > this.#path.length ? "… > " : ""}${ring.join(" > ")}`;
    throw errorOf(
      "PH_CAUSATION_DEPTH",
      `${name} would lie ${this.#depth} handlers behind the message that began it; causationLimit allows ${this.#limit}. The chain: ${shown}. ` +
        "Handlers that cause each other's messages without an end are a loop: let one of them stop, or raise the limit where so long a chain is meant.",
      { contract: name, depth: this.#depth, limit: this.#limit, chain },
    );
  }

  /** Headers as JSON text, with the cause. */
  in(headers: string | null): string {
    return headers === null ? `{${this.#text}}` : `{${this.#text},${headers.slice(1)}`;
  }
}
