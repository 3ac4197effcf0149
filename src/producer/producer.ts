/** Saying outside a transaction of ours: in one statement of its own, or in a transaction that the caller holds open. */
import type { AnyContract } from "../contracts/contract.js";
import { requireKind, type Verb } from "../contracts/require-kind.js";
import type { Database, Executor } from "../core/database.js";
import { errorOf, WouldDeadlockError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";
import { channelsOf, type Written, writeMessages } from "../store/publish.js";
import { asOutgoing } from "./buffer.js";
import type { Catalog } from "./catalog.js";
import { type Said, say } from "./prepare.js";
import { type Asking, SentReceipt } from "./receipt.js";
import type { PublishOptions, ReceiptOf, Say, SendOptions } from "./say.js";
import type { Waker } from "./waker.js";

/** What producing needs; made once by the instance. */
export interface Producing {
  readonly database: Database;
  readonly catalog: Catalog;
  readonly waker: Waker;
  readonly asking: Asking;
  /** Names the database, for transactions that somebody else brings; null when it is not known yet. */
  readonly home: string | null;
}

/** Messages that are being checked, one after the other; a promise where the schema is asynchronous. Closed by whoever reads it. */
type Checking = Generator<Said | Promise<Said>, void, undefined>;
type Write = (checking: Checking) => Promise<Written[]>;

/** `Say` over a way to write: the same verbs for the instance and for `in(tx)`. */
class Sayer implements Say {
  readonly #write: Write;
  readonly #asking: Asking;

  constructor(write: Write, asking: Asking) {
    this.#write = write;
    this.#asking = asking;
  }

  async send<C extends AnyContract<"command">>(command: C, payload: unknown, options?: SendOptions) {
    const [receipt] = await this.#sendAll<C>("send", command, [payload], options);
    return receipt as ReceiptOf<C>;
  }

  async sendMany<C extends AnyContract<"command">>(command: C, payloads: Iterable<unknown>, options?: SendOptions) {
    return this.#sendAll<C>("sendMany", command, payloads, options);
  }

  async publish(event: AnyContract<"event">, payload: unknown, options?: PublishOptions): Promise<void> {
    await this.#write(each("event", "publish", event, [payload], options));
  }

  async publishMany(event: AnyContract<"event">, payloads: Iterable<unknown>, options?: PublishOptions): Promise<void> {
    await this.#write(each("event", "publishMany", event, payloads, options));
  }

  async #sendAll<C extends AnyContract<"command">>(
    verb: Verb,
    command: C,
    payloads: Iterable<unknown>,
    options?: SendOptions,
  ): Promise<ReceiptOf<C>[]> {
    const places = await this.#write(each("command", verb, command, payloads, options));
    return places.map((place) => new SentReceipt(this.#asking, place) as ReceiptOf<C>);
  }
}

/** Checks one after the other; the contract at once, also where the list is empty. */
function each(
  kind: "command" | "event",
  verb: Verb,
  contract: unknown,
  payloads: Iterable<unknown>,
  options: unknown,
): Checking {
  const { name } = requireKind(contract, kind, verb);
  if (!isIterable(payloads)) {
    throw errorOf(
      "PH_OPTION_INVALID",
      `${verb}(${name}, …) takes an array or another iterable of payloads as its second argument, got ${show(payloads)}.`,
      { contract: name },
    );
  }
  return checking();

  function* checking(): Checking {
    let count = 0;
    for (const payload of payloads) {
      count += 1;
      if (count > limits.sayMessages) {
        throw errorOf(
          "PH_PAYLOAD_TOO_LARGE",
          `${verb}(${name}, …) was given more than ${limits.sayMessages} payloads; nothing was written. Split them into several calls.`,
          { contract: name, max: limits.sayMessages },
        );
      }
      yield say(kind, verb, contract, payload, options);
    }
  }
}

/** Takes up to `count`; what is asynchronous is awaited. */
async function take(checking: Checking, count: number) {
  const said: Said[] = [];
  let late = false;
  while (said.length < count) {
    const next = checking.next();
    if (next.done) return { said, late, more: false };
    if (next.value instanceof Promise) late = true;
    said.push(next.value instanceof Promise ? await next.value : next.value);
  }
  return { said, late, more: true };
}

/** A string is iterable too, and never meant as a list of letters. */
function isIterable(value: unknown): value is Iterable<unknown> {
  if (typeof value !== "object" || value === null || !(Symbol.iterator in value)) return false;
  return typeof value[Symbol.iterator] === "function";
}

/** The caller's iterable is closed whatever happens: it may hold a file or a cursor. */
function closing(write: Write): Write {
  return async (checking) => {
    try {
      return await write(checking);
    } finally {
      checking.return();
    }
  };
}

/** The first piece of a long list, and the most that a later piece may hold: the first is small, so that the server soon has work. */
const firstPiece = 250;
const largestPiece = 2_000;

/** Outside any transaction: each call is one of its own, committed when it returns. */
export function sayNow(producing: Producing): Say {
  const { database, waker, asking } = producing;
  const write: Write = closing(async (checking) => {
    const first = await take(checking, firstPiece);
    if (first.said.length === 0) return [];
    if (database.single && database.insideTransaction()) throw wouldDeadlock(first.said);
    const { written, channels } =
      first.more && !first.late && !database.single && !database.insideTransaction() && !isOnce(first.said)
        ? await writeWhileChecking(producing, first.said, checking)
        : await writeAtOnce(producing, first.said, checking);
    waker.wake(channels);
    return written;
  });
  return new Sayer(write, asking);
}

/** Keys of dedupe are locked in their order over the whole list, so all of it must be known first. */
function isOnce(said: readonly Said[]): boolean {
  return said.some(({ extras }) => extras?.once !== undefined);
}

/** Checks all before any is written. */
async function writeAtOnce({ database, catalog }: Producing, first: Said[], rest: Checking) {
  const { said } = await take(rest, limits.sayMessages);
  const { messages, channels } = await outgoing(catalog, [...first, ...said]);
  const written =
    messages.length <= limits.batchMessages
      ? await writeMessages(database, messages)
      : await inOneTransaction(database, (tx) => writeMessages(tx, messages));
  return { written, channels };
}

/**
 * Checks a long list piece by piece while the server writes the piece before, in one transaction: all or none, as if they had been checked
 * first. Only where checks are synchronous, so that the transaction never waits for anybody.
 */
function writeWhileChecking({ database, catalog }: Producing, first: Said[], rest: Checking) {
  return inOneTransaction(database, async (tx) => {
    const written: Written[] = [];
    const channels = new Set<number>();
    let piece = { said: first, more: true };
    let size = firstPiece;
    while (piece.said.length > 0) {
      const { messages, channels: told } = await outgoing(catalog, piece.said);
      for (const channel of told) channels.add(channel);
      const writing = writeMessages(tx, messages);
      // Its error is met below; should a check fail before, the rollback waits for it.
      writing.catch(() => undefined);
      size = Math.min(largestPiece, size * 2);
      try {
        piece = piece.more ? await take(rest, size) : { said: [], more: false };
      } finally {
        await writing.catch(() => undefined);
      }
      written.push(...(await writing));
    }
    return { written, channels };
  });
}

/** In a transaction that the caller began and will end. */
export function sayIn(producing: Producing, tx: () => Promise<Executor>): Say {
  const { catalog, waker, asking, home } = producing;
  const write: Write = closing(async (checking) => {
    const { said } = await take(checking, limits.sayMessages + 1);
    const executor = await tx();
    if (said.length === 0) return [];
    const { messages, channels } = await outgoing(catalog, said, executor);
    const written = await writeMessages(executor, messages, home);
    void waker.watch(written[0]?.xid ?? null, channels);
    return written;
  });
  return new Sayer(write, asking);
}

async function outgoing(catalog: Catalog, said: readonly Said[], inside?: Executor) {
  const kind = said[0]?.contract.kind;
  const { ids } = await catalog.ids(
    said.map(({ contract }) => contract),
    kind === "event",
    inside,
  );
  const messages = said.map((one) => asOutgoing(one, ids.get(one.contract)));
  await catalog.lanes(messages);
  return { messages, channels: channelsOf(messages) };
}

async function inOneTransaction<T>(database: Database, work: (tx: Executor) => Promise<T>): Promise<T> {
  // The application may have set a shorter time for transactions of its own that are idle.
  const open = await database.begin({ marked: false, idleMs: 300_000 });
  try {
    const result = await work(open);
    await open.commit();
    return result;
  } catch (error) {
    await open.rollback();
    throw error;
  }
}

function wouldDeadlock([first]: readonly Said[]): WouldDeadlockError {
  const verb = first?.contract.kind === "event" ? "publish" : "send";
  return new WouldDeadlockError(
    "PH_WOULD_DEADLOCK",
    `${verb}(${first?.contract.name}) would wait for the transaction that it is called from: the embedded database has one connection. Use the ${verb} of the transaction's or handler's context instead.`,
  );
}
