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

/**
 * The header. Its value: depth, correlation ("-" where it is the cause itself), cause ("-" where nobody's handler said it, which only a message from
 * outside can tell), and the names of the last contracts before it.
 */
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
const shape = /^(\d{1,6}) ([!-~]{1,128}) ([!-~]{1,128}) ([A-Za-z\d>]+)$/;

type Headed = Pick<Delivery, "headers">;

/** A header that nobody of ours wrote counts as none. */
export function causeOf({ headers }: Headed): Cause {
  const [, depth, correlation, causation, path] = shape.exec(headers?.[causeHeader] ?? "") ?? [];
  if (depth === undefined || path === undefined) return none;
  const causationId = causation === undefined || causation === "-" ? null : causation;
  const correlationId = correlation === undefined || correlation === "-" ? causationId : correlation;
  return { depth: Number(depth), correlationId, causationId, path: path.split(">") };
}

/** Extensions of a CloudEvent that say what caused it. The depth is ours: it holds a ring of handlers that goes through several services. */
export const causeExtensions = {
  correlation: "correlationid",
  causation: "causationid",
  depth: "causationdepth",
  path: "causationpath",
} as const;

const idShape = /^[!-~]{1,128}$/;
/** Where who came before is not told. */
const unknownPath = "outside";

/** The header of a message that comes from outside; null where nothing is said of its cause. What cannot be one counts as not said. */
export function causeFromOutside(extensions: Readonly<Record<string, string>>): string | null {
  const idIn = (name: string): string => {
    const id = extensions[name];
    return id !== undefined && idShape.test(id) ? id : "-";
  };
  const correlation = idIn(causeExtensions.correlation);
  const causation = idIn(causeExtensions.causation);
  if (correlation === "-" && causation === "-") return null;
  const told = extensions[causeExtensions.depth] ?? "";
  // Somebody's handler said it, so one lies behind it at least.
  const depth = /^\d{1,6}$/.test(told) ? Number(told) : causation === "-" ? 0 : 1;
  const path = extensions[causeExtensions.path] ?? "";
  return `${depth} ${correlation} ${causation} ${/^[A-Za-z\d>]{1,1500}$/.test(path) ? path : unknownPath}`;
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
