/**
 * From what a broker gives to what is written: which contract, which version, whether it fits, its key, its headers, and what it is recognised by.
 *
 * What fits nothing is told with the reason and never thrown, whatever the bytes are: it is kept in the list of invalid messages.
 */
import type { Incoming } from "../brokers/broker.js";
import { type CloudEvent, decode } from "../brokers/envelope.js";
import { keyOf, prepare, type Received, receive } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { issuesInWords } from "../contracts/issues.js";
import { cleaned } from "../core/clean.js";
import { PosthornError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { quote } from "../core/show.js";
import type { Marked, Unfit } from "../store/intake.js";
import type { ContractIds } from "../store/registry.js";
import { readForeign } from "./foreign.js";
import { Identities, type Identity } from "./identity.js";
import { Misfit } from "./misfit.js";
import type { IntakeDeclaration } from "./options.js";
import { headersOf } from "./outside.js";
import { isLarge, parsePayload } from "./payload.js";
import { Taken, typesOf } from "./types.js";
import { type Found, unfitOf } from "./unfit.js";

/** What became of one message. */
export type Reading =
  | { readonly kind: "message"; readonly message: Marked }
  /** `misfit`: the kind of a `Misfit`. */
  | { readonly kind: "invalid"; readonly unfit: Unfit; readonly misfit: string }
  /** `type`: that no contract has. Without it `read` has passed over the message. */
  | { readonly kind: "skipped"; readonly type?: string };

/** A version of a contract as the registry knows it. */
export interface Known {
  readonly contract: AnyContract;
  readonly version: number;
  readonly ids: ContractIds;
}

/** By name, then by version. */
export type KnownContracts = ReadonlyMap<string, ReadonlyMap<number, Known>>;

const skipped: Reading = { kind: "skipped" };
const noEvent = "not a CloudEvent";

export class Reader {
  readonly #declaration: IntakeDeclaration;
  readonly #known: KnownContracts;
  readonly #identities: Identities;
  /** Of CloudEvents, and of what `read` says. */
  readonly #types: Taken;
  readonly #names: Taken;

  /** `names`: as of `Identities`. */
  constructor(declaration: IntakeDeclaration, known: KnownContracts, names: readonly string[] = [declaration.name]) {
    this.#declaration = declaration;
    this.#identities = new Identities(names);
    this.#known = known;
    const { types, contracts, typePrefix } = declaration;
    this.#types = new Taken(typesOf(types, contracts, typePrefix));
    this.#names = new Taken([...known.keys()]);
  }

  /** The same under other names, for an intake that was renamed. */
  under(names: readonly string[]): Reader {
    return new Reader(this.#declaration, this.#known, names);
  }

  /** A promise only where the schema is asynchronous. Never throws or rejects. */
  read(incoming: Incoming): Reading | Promise<Reading> {
    const { broker } = this.#declaration;
    let event: CloudEvent | undefined;
    let own: Identity | undefined;
    try {
      if (incoming.body.byteLength > limits.intakeBodyBytes) throw tooLarge(incoming.body.byteLength);
      const decoded = decode(incoming, broker.style);
      if (decoded === undefined) return this.#foreign(incoming);
      if (!decoded.ok) throw new Misfit(`it is no CloudEvent: ${decoded.problem}`, noEvent);
      event = decoded.event;
      own = this.#identities.ofEvent(event.source, event.id);
      const reading = this.#readEvent(event, own);
      if (!(reading instanceof Promise)) return reading;
      const found = foundIn(event, own);
      return reading.catch((error) => this.#invalid(incoming, found, error));
    } catch (error) {
      return this.#invalid(incoming, foundIn(event, own), error);
    }
  }

  /** What the database does not take although it fits; undefined for what does not fit anyway. */
  async refused(incoming: Incoming, reason: string): Promise<Reading | undefined> {
    const reading = await this.read(incoming);
    if (reading.kind !== "message") return undefined;
    const { mark, former, key } = reading.message;
    const found = { identity: { kind: "event" as const, mark, former }, key: key ?? undefined };
    return { kind: "invalid", unfit: unfitOf(incoming, cleaned(reason), found), misfit: "refused by the database" };
  }

  #foreign(incoming: Incoming): Reading | Promise<Reading> {
    const found: Writable<Found> = {};
    try {
      const reading = this.#readForeign(incoming, found);
      if (!(reading instanceof Promise)) return reading;
      return reading.catch((error) => this.#invalid(incoming, found, error));
    } catch (error) {
      return this.#invalid(incoming, found, error);
    }
  }

  #readEvent(event: CloudEvent, own: Identity): Reading | Promise<Reading> {
    const { types, typePrefix } = this.#declaration;
    const { type, data, extensions } = event;
    const named = types.get(type);
    const name = named?.name ?? (type.startsWith(typePrefix) ? type.slice(typePrefix.length) : undefined);
    const versions = name === undefined ? undefined : this.#known.get(name);
    if (versions === undefined) return this.#other(type, this.#types);
    const known = versionIn(versions, extensions.contractversion, named?.version);
    const { contract, version } = known;
    if (isLarge(data)) throw tooLarge(Buffer.byteLength(data));
    const { json, value } = parsePayload(data, `payload of ${contract.name}`);
    const headers = headersOf(event);
    const received = receive(contract, value, version);
    return received instanceof Promise
      ? received.then((late) => fitting(known, late, own, json, headers))
      : fitting(known, received, own, json, headers);
  }

  #readForeign(incoming: Incoming, found: Writable<Found>): Reading | Promise<Reading> {
    const { read, broker } = this.#declaration;
    if (read === undefined) {
      throw new Misfit("it is no CloudEvent, and the intake has no function `read` for others", noEvent);
    }
    const said = readForeign(read, incoming);
    if (said === null) return skipped;
    found.type = said.name;
    const own =
      said.id === undefined
        ? this.#identities.at(broker.where, incoming)
        : this.#identities.ofSender(broker.where, said.id);
    if (own === undefined) {
      throw new Misfit(
        "it has no id, and nothing stable can be derived: it would be written again whenever it comes again",
        "without an id",
      );
    }
    found.identity = own;
    const versions = this.#known.get(said.name);
    if (versions === undefined) return this.#other(said.name, this.#names);
    const { contract, ids } = versionIn(versions, undefined);
    const headers = headersOf({ extensions: {}, headers: said.headers ?? {} });
    const finish = ({ json, key }: Awaited<ReturnType<typeof prepare>>): Reading => ({
      kind: "message",
      message: { ...ids, mark: own.mark, former: own.former, key, json, headers },
    });
    const prepared = prepare(contract, said.payload);
    return prepared instanceof Promise ? prepared.then(finish) : finish(prepared);
  }

  /** In words, the types that are taken. */
  takenBeside(type: string): string {
    return this.#types.inWords(type);
  }

  #other(type: string, taken: Taken): Reading {
    if (this.#declaration.skipsOthers) return { kind: "skipped", type };
    throw new Misfit(
      `no contract of this intake has its type ${quote(type)}; ${taken.inWords(type)}`,
      "of a type that no contract has",
    );
  }

  #invalid(incoming: Incoming, found: Partial<Found>, error: unknown): Reading {
    const { broker } = this.#declaration;
    const own = found.identity ?? this.#identities.at(broker.where, incoming) ?? this.#identities.ofContent(incoming);
    const { reason, kind } = misfitIn(error);
    return { kind: "invalid", unfit: unfitOf(incoming, reason, { ...found, identity: own }), misfit: kind };
  }
}

type Writable<T> = { -readonly [N in keyof T]?: T[N] };

function foundIn(event: CloudEvent | undefined, own: Identity | undefined): Partial<Found> {
  if (event === undefined || own === undefined) return {};
  const { source, id, type, extensions } = event;
  return { identity: own, source, event: id, type, key: extensions.partitionkey };
}

/** Errors: `Misfit` where it does not fit its schema; whatever the key function of the contract leads to. */
function fitting(
  { contract, ids }: Known,
  received: Received,
  { mark, former }: Identity,
  json: string,
  headers: string | null,
): Reading {
  if (!received.ok) {
    const { name } = contract;
    throw new Misfit(`it does not fit ${name}: ${issuesInWords(received.issues)}`, `not fitting ${name}`);
  }
  const key = contract.keyed ? keyOf(contract, received.payload) : null;
  const { contract: id, channel, lanes } = ids;
  return { kind: "message", message: { mark, former, contract: id, channel, lanes, key, json, headers } };
}

/** The version that a message says; without one that of the contract that its type names, or the newest. */
function versionIn(versions: ReadonlyMap<number, Known>, said: string | undefined, named?: number): Known {
  const version = said === undefined ? (named ?? Math.max(...versions.keys())) : Number(said);
  const known = versions.get(version);
  if (known !== undefined) return known;
  const name = [...versions.values()][0]?.contract.name ?? "the contract";
  throw new Misfit(
    `its version ${quote(said ?? "")} of ${name} is not read here; known are ${[...versions.keys()].join(", ")}`,
    `of a version of ${name} that is not read here`,
  );
}

function tooLarge(bytes: number): Misfit {
  return new Misfit(`its payload has ${bytes} bytes; at most ${limits.payloadBytes} are allowed`, "too large");
}

/** What a schema or a library says may hold what it was given; a reason is stored beside the message, and cut. */
function misfitIn(error: unknown): Misfit {
  if (error instanceof Misfit) return new Misfit(cleaned(error.reason), error.kind);
  if (error instanceof PosthornError) return new Misfit(cleaned(error.message), `refused (${error.code})`);
  return error instanceof SyntaxError
    ? new Misfit("its payload is not JSON", "not JSON")
    : new Misfit("it cannot be read", "not readable");
}
