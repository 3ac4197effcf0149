/**
 * What a transaction or handler says, held back until it commits.
 *
 * `send` and `publish` check at once where the schema is synchronous, and throw to the caller; an asynchronous check is collected and
 * awaited by `ready`. After `close` nothing more is taken: a call from a stray promise is an error there, never a lost message.
 */
import type { AnyContract } from "../contracts/contract.js";
import type { Executor } from "../core/database.js";
import { DatabaseUnavailableError, errorOf, NotCommittedError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { asList, channelsOf, nonces, type Outgoing, type Place } from "../store/publish.js";
import type { Catalog } from "./catalog.js";
import type { Causing } from "./cause.js";
import { type Said, say } from "./prepare.js";
import { type Asking, SentReceipt } from "./receipt.js";
import type { Room } from "./room.js";
import type { PublishOptions, Receipt, ReceiptOf, SayBuffered, SendOptions } from "./say.js";

interface Pending {
  said: Said | Promise<Said>;
  readonly receipt: SentReceipt | undefined;
}

/** What is ready to be written; empty when nothing was said. */
export interface Batch {
  readonly messages: readonly Outgoing[];
  readonly channels: ReadonlySet<number>;
  /** How many of each command. */
  readonly commands: ReadonlyMap<AnyContract, number>;
  /** To be called after the commit, with the places in the order of `messages`. */
  readonly committed: (places: readonly Place[]) => void;
}

export const nothingSaid: Batch = {
  messages: [],
  channels: new Set(),
  commands: new Map(),
  committed: () => undefined,
};

export class Buffer implements SayBuffered {
  readonly #catalog: Catalog;
  readonly #asking: Asking;
  readonly #owner: string;
  #pending: Pending[] = [];
  #closed = false;
  readonly #room: Room | undefined;
  readonly #causing: Causing | undefined;

  /**
   * `room`: where a full queue refuses a command at the call. Without it whoever writes the batch asks. `causing`: of a handler, whose message is
   * the cause.
   */
  constructor(catalog: Catalog, asking: Asking, owner: string, room?: Room, causing?: Causing) {
    this.#catalog = catalog;
    this.#asking = asking;
    this.#owner = owner;
    this.#room = room;
    this.#causing = causing;
  }

  // Bound, because users take them apart: ({ send, publish }) => …
  readonly send = <C extends AnyContract<"command">>(
    command: C,
    payload: unknown,
    options?: SendOptions,
  ): ReceiptOf<C> => {
    const receipt = new SentReceipt(this.#asking, command);
    const said = this.#check("command", command, payload, options);
    this.#room?.note(command, 1);
    this.#take({ said, receipt });
    return receipt as Receipt as ReceiptOf<C>;
  };

  readonly publish = (event: AnyContract<"event">, payload: unknown, options?: PublishOptions): void => {
    this.#take({ said: this.#check("event", event, payload, options), receipt: undefined });
  };

  get empty(): boolean {
    return this.#pending.length === 0;
  }

  #check(kind: "command" | "event", contract: unknown, payload: unknown, options: unknown): Said | Promise<Said> {
    if (this.#closed) {
      const verb = kind === "event" ? "publish" : "send";
      throw new NotCommittedError(
        "PH_SAY_AFTER_END",
        `${verb}() was called after ${this.#owner} had ended; the message was not written. Await whatever calls it inside.`,
      );
    }
    const said = say(kind, kind === "event" ? "publish" : "send", contract, payload, options);
    const causing = this.#causing;
    if (causing === undefined) return said;
    const caused = (one: Said): Said => {
      causing.check(one.contract);
      return { ...one, headers: causing.in(one.headers) };
    };
    return said instanceof Promise ? said.then(caused) : caused(said);
  }

  #take(pending: Pending): void {
    if (this.#pending.length >= limits.sayMessages) {
      throw errorOf(
        "PH_PAYLOAD_TOO_LARGE",
        `${this.#owner} said more than ${limits.sayMessages} messages. Split the work into several.`,
        { max: limits.sayMessages },
      );
    }
    // The rejection of an asynchronous check is seen by `ready`, or belongs to a transaction that failed anyway.
    if (pending.said instanceof Promise) pending.said.catch(() => undefined);
    this.#pending.push(pending);
  }

  /** The number of messages so far, and the way back to it: for savepoints. */
  mark(): number {
    return this.#pending.length;
  }

  backTo(mark: number): void {
    this.#drop(mark, true);
  }

  #drop(mark: number, certain: boolean): void {
    for (const { receipt } of this.#pending.splice(mark)) receipt?.dropped(certain);
  }

  /** Refuses everything from here on. */
  close(): void {
    this.#closed = true;
  }

  /** Awaits the checks and finds the ids. `inside`: the transaction that will write, where there is one. */
  async ready(inside?: Executor): Promise<Batch> {
    if (this.empty) return nothingSaid;
    const said: Said[] = [];
    for (const pending of this.#pending) said.push(await pending.said);
    const publishes = said.filter(({ contract }) => contract.kind === "event").map(({ contract }) => contract);
    const sends = said.filter(({ contract }) => contract.kind === "command").map(({ contract }) => contract);
    const events = await this.#catalog.ids(publishes, true, inside);
    const commands = await this.#catalog.ids(sends, false, inside);
    const messages = said.map((one) => asOutgoing(one, events.ids.get(one.contract) ?? commands.ids.get(one.contract)));
    await this.#catalog.lanes(messages);
    const receipts = this.#pending.map(({ receipt }) => receipt);
    return {
      messages,
      channels: channelsOf(messages),
      commands: counted(sends),
      committed: (places) => {
        events.remember();
        commands.remember();
        for (const [i, receipt] of receipts.entries()) receipt?.written(places, i);
      },
    };
  }

  /** Tells the receipts that nothing was written; or, where the error came out of COMMIT, that nobody knows. */
  drop(error?: unknown): void {
    this.close();
    this.#drop(0, !(error instanceof DatabaseUnavailableError && error.facts.inCommit === true));
  }
}

function counted(contracts: readonly AnyContract[]): ReadonlyMap<AnyContract, number> {
  const counts = new Map<AnyContract, number>();
  for (const contract of contracts) counts.set(contract, (counts.get(contract) ?? 0) + 1);
  return counts;
}

export function asOutgoing(
  said: Said,
  ids: { readonly contract: number; readonly channel: number; readonly lanes?: number } | undefined,
): Outgoing {
  if (ids === undefined) throw errorOf("PH_INTERNAL", `The contract ${said.contract.name} was not registered.`);
  const { key, json, headers, extras } = said;
  return { contract: ids.contract, channel: ids.channel, lanes: ids.lanes, key, json, headers, extras };
}

const nothingToSay = { list: null, committed: () => undefined };

/** Batches as the one list that SQL functions take, and what to do with the places that they return, by the nonces that were sent. */
export function asSay(batches: readonly Batch[]): {
  readonly list: string | null;
  readonly committed: (places: ReadonlyMap<string, Place>) => void;
} {
  if (batches.every((batch) => batch === nothingSaid)) return nothingToSay;
  const messages = batches.flatMap((batch) => batch.messages);
  const own = nonces(messages.length);
  const list = messages.length === 0 ? null : asList(messages, own);
  return {
    list,
    committed: (places) => {
      let from = 0;
      for (const batch of batches) {
        const said = own.subarray(from, from + batch.messages.length);
        from += said.length;
        batch.committed(Array.from(said, (nonce) => places.get(String(nonce))).filter((place) => place !== undefined));
      }
    },
  };
}
