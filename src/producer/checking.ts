/**
 * Checking the payloads of one call, a few at a time. The contract and the options are checked once, and the messages are alike but for their
 * payloads and keys.
 */
import { type Prepared, type PreparedList, prepare, prepareList } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { requireKind, type Verb } from "../contracts/require-kind.js";
import { errorOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";
import type { ExtrasOf } from "./extras.js";
import { encodeOptions, type Said } from "./prepare.js";

export class Checking {
  readonly contract: AnyContract;
  readonly verb: Verb;
  readonly headers: string | null;
  /** Whether there is more beside the payloads than headers: then messages are taken by `takeSaid`. */
  readonly beside: boolean;
  readonly #extrasOf: ExtrasOf | undefined;
  readonly #payloads: Iterator<unknown>;
  /** Those of an array stay what they are until the call ends; other iterables may give the same object again, changed. */
  readonly #steady: boolean;
  readonly #length: number | undefined;
  #taken = 0;
  #more = true;
  #late = false;

  /** Errors: for what is no contract of this kind, no options of this verb, and no list. */
  constructor(kind: "command" | "event", verb: Verb, contract: unknown, payloads: Iterable<unknown>, options: unknown) {
    this.contract = requireKind(contract, kind, verb);
    this.verb = verb;
    if (!isIterable(payloads)) throw this.#noList(payloads);
    const { headers, extras } = encodeOptions(kind, verb, this.contract, options);
    this.headers = headers;
    this.beside = extras !== undefined;
    this.#extrasOf = extras;
    this.#steady = Array.isArray(payloads);
    this.#length = Array.isArray(payloads) ? payloads.length : undefined;
    this.#payloads = payloads[Symbol.iterator]();
  }

  /** Whether there may be more. */
  get more(): boolean {
    return this.#more && (this.left === undefined || this.left > 0);
  }

  /** How many are left, where that is known. */
  get left(): number | undefined {
    return this.#length === undefined ? undefined : this.#length - this.#taken;
  }

  /** Whether the schema was asynchronous so far. */
  get late(): boolean {
    return this.#late;
  }

  /** Checks up to `count` more; what is asynchronous is awaited, one after the other. */
  async take(count: number): Promise<PreparedList> {
    const payloads = this.#next(count);
    if (!this.#steady) return this.#oneByOne(payloads);
    const all = [...payloads];
    return (all.length > 1 ? prepareList(this.contract, all) : undefined) ?? this.#oneByOne(all);
  }

  /** Checks all that are left, each with what it has beside its payload. */
  async takeSaid(): Promise<readonly Said[]> {
    const { contract, headers } = this;
    const said: Said[] = [];
    for (const payload of this.#next(limits.sayMessages + 1)) {
      const extras = this.#extrasOf?.(payload);
      const { json, key } = await this.#prepare(payload);
      said.push({ contract, json, key, headers, extras });
    }
    return said;
  }

  #prepare(payload: unknown): Prepared | Promise<Prepared> {
    const prepared = prepare(this.contract, payload);
    if (prepared instanceof Promise) this.#late = true;
    return prepared;
  }

  async #oneByOne(payloads: Iterable<unknown>): Promise<PreparedList> {
    const jsons: string[] = [];
    const keys: string[] = [];
    for (const payload of payloads) {
      let prepared = this.#prepare(payload);
      if (prepared instanceof Promise) prepared = await prepared;
      jsons.push(prepared.json);
      if (prepared.key !== null) keys.push(prepared.key);
    }
    return { count: jsons.length, list: `[${jsons.join(",")}]`, keys: this.contract.keyed ? keys : null };
  }

  /** Up to `count` payloads. An iterable without end is refused at its limit. */
  *#next(count: number): Generator<unknown, void, undefined> {
    for (let i = 0; i < count; i += 1) {
      // Until it has answered: an iterator that throws has closed itself.
      this.#more = false;
      const next = this.#payloads.next();
      if (next.done) return;
      this.#more = true;
      this.#taken += 1;
      if (this.#taken > limits.sayMessages) throw this.#tooMany();
      yield next.value;
    }
  }

  /** The caller's iterable is closed whatever happens: it may hold a file or a cursor. */
  close(): void {
    if (this.#more) this.#payloads.return?.();
  }

  #noList(payloads: unknown): Error {
    const { name } = this.contract;
    return errorOf(
      "PH_OPTION_INVALID",
      `${this.verb}(${name}, …) takes an array or another iterable of payloads as its second argument, got ${show(payloads)}.`,
      { contract: name },
    );
  }

  #tooMany(): Error {
    const { name } = this.contract;
    return errorOf(
      "PH_PAYLOAD_TOO_LARGE",
      `${this.verb}(${name}, …) was given more than ${limits.sayMessages} payloads; nothing was written. Split them into several calls.`,
      { contract: name, max: limits.sayMessages },
    );
  }
}

/** A string is iterable too, and never meant as a list of letters. */
function isIterable(value: unknown): value is Iterable<unknown> {
  if (typeof value !== "object" || value === null || !(Symbol.iterator in value)) return false;
  return typeof value[Symbol.iterator] === "function";
}
