/** Saying outside a transaction of ours: in one statement of its own, or in a transaction that the caller holds open. */
import type { PreparedList } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import type { Verb } from "../contracts/require-kind.js";
import type { Database, Executor } from "../core/database.js";
import { errorOf, WouldDeadlockError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import {
  type Alike,
  channelsOf,
  commitAlike,
  type Places,
  type Written,
  writeAlike,
  writeAndWake,
  writeSaid,
} from "../store/publish.js";
import type { ContractIds } from "../store/registry.js";
import { asOutgoing } from "./buffer.js";
import type { Catalog } from "./catalog.js";
import { Checking } from "./checking.js";
import type { Outside } from "./outside.js";
import type { Said } from "./prepare.js";
import { type Asking, SentReceipt } from "./receipt.js";
import type { Room } from "./room.js";
import type { PublishOptions, Receipt, ReceiptOf, Say, SendOptions } from "./say.js";
import type { Waker } from "./waker.js";

/** What producing needs; made once by the instance. */
export interface Producing {
  readonly database: Database;
  readonly catalog: Catalog;
  readonly waker: Waker;
  readonly asking: Asking;
  readonly room: Room;
  readonly outside: Outside;
  /** Names the database, for transactions that somebody else brings; null when it is not known yet. */
  readonly home: string | null;
}

/** Where the messages of a call were written, piece by piece. */
type Write = (checking: Checking) => Promise<readonly Places[]>;

/** `Say` over a way to write: the same verbs for the instance and for `in(tx)`. */
class Sayer implements Say {
  readonly #write: Write;
  readonly #asking: Asking;

  constructor(write: Write, asking: Asking) {
    this.#write = write;
    this.#asking = asking;
  }

  async send<C extends AnyContract<"command">>(command: C, payload: unknown, options?: SendOptions) {
    const [receipt] = await this.#send<C>("send", command, [payload], options);
    return receipt as ReceiptOf<C>;
  }

  async sendMany<C extends AnyContract<"command">>(command: C, payloads: Iterable<unknown>, options?: SendOptions) {
    return this.#send<C>("sendMany", command, payloads, options);
  }

  async publish(event: AnyContract<"event">, payload: unknown, options?: PublishOptions): Promise<void> {
    await this.#say(new Checking("event", "publish", event, [payload], options));
  }

  async publishMany(event: AnyContract<"event">, payloads: Iterable<unknown>, options?: PublishOptions): Promise<void> {
    await this.#say(new Checking("event", "publishMany", event, payloads, options));
  }

  async #send<C extends AnyContract<"command">>(
    verb: Verb,
    command: C,
    payloads: Iterable<unknown>,
    options?: SendOptions,
  ): Promise<ReceiptOf<C>[]> {
    const receipts: ReceiptOf<C>[] = [];
    for (const written of await this.#say(new Checking("command", verb, command, payloads, options))) {
      for (let i = 0; i < written.length; i += 1) {
        receipts.push(SentReceipt.at(this.#asking, command, written, i) as Receipt as ReceiptOf<C>);
      }
    }
    return receipts;
  }

  async #say(checking: Checking): Promise<readonly Places[]> {
    try {
      return await this.#write(checking);
    } finally {
      checking.close();
    }
  }
}

/** How many messages of a longer list are checked while the server writes those before: fewer cost more in statements than they save in time. */
const pieceMessages = 2_000;

/** Outside any transaction: each call is one of its own, committed when it returns. */
export function sayNow(producing: Producing): Say {
  const { database, waker, asking, room, outside } = producing;
  const write: Write = async (checking) => {
    const inside = database.insideTransaction();
    if (checking.beside) return saySaid(producing, checking);
    const alone = database.single || inside;
    const first = await checking.take(alone ? limits.batchMessages : pieceMessages);
    if (first.count === 0) return [];
    if (database.single && inside) throw wouldDeadlock(checking);
    if (inside) outside.tell(database, checking);
    const admission = room.admit(checking.contract, first.count);
    if (admission !== undefined) await admission;
    if (first.count === 1 && !checking.more && !alone) return [await writeAlone(producing, first, checking)];
    const { written, channel } =
      checking.more && !checking.late && !alone
        ? await writeWhileChecking(producing, first, checking)
        : await writeAtOnce(producing, first, checking);
    // A list is let in as a whole, whatever its length; the next one meets it.
    if (written.length > 1) room.add(checking.contract, lengthOf(written) - first.count);
    waker.wake(new Set([channel]));
    return written;
  };
  return new Sayer(write, asking);
}

/** With options, all is checked before any is written: keys of dedupe are locked in their order over the whole list. */
async function saySaid(producing: Producing, checking: Checking): Promise<readonly Places[]> {
  const { database, catalog, waker, room, outside } = producing;
  const said = await checking.takeSaid();
  if (said.length === 0) return [];
  if (database.single && database.insideTransaction()) throw wouldDeadlock(checking);
  outside.tell(database, checking);
  // Whether one of them will be dropped as a duplicate is known only when it is written.
  const admission = room.admit(checking.contract, said.length);
  if (admission !== undefined) await admission;
  const messages = await outgoing(catalog, checking, said);
  const { places } =
    messages.length <= limits.batchMessages
      ? await writeSaid(database, messages)
      : await inOneTransaction(database, (tx) => writeSaid(tx, messages));
  waker.wake(channelsOf(messages));
  return [places];
}

/** One message. It tells of itself, if it may. */
async function writeAlone({ database, catalog, waker }: Producing, first: PreparedList, checking: Checking) {
  const ids = await idsOf(catalog, checking);
  const message = { ...ids, headers: checking.headers, ...first };
  const ride = waker.ride(ids.channel);
  try {
    const channels = ride.channels;
    if (channels === undefined) return await writeAlike(database, message);
    const { written, heard } = await writeAndWake(database, message, channels);
    ride.heard = heard;
    return written;
  } finally {
    ride.end();
  }
}

/** Checks all before any is written. */
async function writeAtOnce({ database, catalog }: Producing, first: PreparedList, checking: Checking) {
  const pieces = [first, ...(await takeAll(checking))];
  const ids = await idsOf(catalog, checking);
  const writeTo = (executor: Executor) => writeAll(executor, pieces, { ...ids, headers: checking.headers });
  const written = pieces.length === 1 ? await writeTo(database) : await inOneTransaction(database, writeTo);
  return { written, channel: ids.channel };
}

/**
 * Checks a long list piece by piece while the server writes the piece before, in one transaction: all or none, as if they had been checked
 * first. Only where checks are synchronous, so that the transaction never waits for anybody.
 */
async function writeWhileChecking({ database, catalog }: Producing, first: PreparedList, checking: Checking) {
  const open = await database.begin(patient);
  try {
    const ids = await idsOf(catalog, checking);
    const common = { ...ids, headers: checking.headers };
    const written: Written[] = [];
    let piece = first;
    while (checking.more) {
      const writing = writeAlike(open, { ...common, ...piece });
      // Its error is met below; should a check fail before, the rollback waits for it.
      writing.catch(() => undefined);
      try {
        piece = await checking.take(pieceMessages);
      } finally {
        await writing.catch(() => undefined);
      }
      written.push(await writing);
    }
    if (piece.count === 0) await open.commit();
    else written.push(await commitAlike(open, { ...common, ...piece }));
    return { written, channel: ids.channel };
  } catch (error) {
    await open.rollback();
    throw error;
  }
}

/** In a transaction that the caller began and will end. */
export function sayIn(producing: Producing, tx: () => Promise<Executor>): Say {
  const { catalog, waker, asking, home, room } = producing;
  const write: Write = async (checking) => {
    if (checking.beside) return saySaidIn(producing, checking, tx);
    const pieces = await takeAll(checking);
    const executor = await tx();
    if (pieces.length === 0) return [];
    await room.admit(checking.contract, countOf(pieces), { tx: executor, foreign: true });
    const ids = await idsOf(catalog, checking, executor);
    const written = await writeAll(executor, pieces, { ...ids, headers: checking.headers }, home);
    void waker.watch(written[0]?.xid ?? null, new Set([ids.channel]));
    return written;
  };
  return new Sayer(write, asking);
}

async function saySaidIn(producing: Producing, checking: Checking, tx: () => Promise<Executor>) {
  const { catalog, waker, home, room } = producing;
  const said = await checking.takeSaid();
  const executor = await tx();
  if (said.length === 0) return [];
  await room.admit(checking.contract, said.length, { tx: executor, foreign: true });
  const messages = await outgoing(catalog, checking, said, executor);
  const { xid, places } = await writeSaid(executor, messages, home);
  void waker.watch(xid, channelsOf(messages));
  return [places];
}

async function outgoing(catalog: Catalog, checking: Checking, said: readonly Said[], inside?: Executor) {
  const ids = await idsOf(catalog, checking, inside);
  const messages = said.map((one) => asOutgoing(one, ids));
  await catalog.lanes(messages);
  return messages;
}

/** All that are left, in pieces that fit into a statement. */
async function takeAll(checking: Checking): Promise<readonly PreparedList[]> {
  const pieces: PreparedList[] = [];
  while (checking.more) {
    const piece = await checking.take(limits.batchMessages);
    if (piece.count > 0) pieces.push(piece);
  }
  return pieces;
}

function lengthOf(written: readonly Written[]): number {
  return written.reduce((sum, { length }) => sum + length, 0);
}

function countOf(pieces: readonly PreparedList[]): number {
  return pieces.reduce((sum, { count }) => sum + count, 0);
}

async function writeAll(
  executor: Executor,
  pieces: readonly PreparedList[],
  common: Pick<Alike, "contract" | "channel" | "lanes" | "headers">,
  home: string | null = null,
): Promise<readonly Written[]> {
  const written: Written[] = [];
  for (const piece of pieces) written.push(await writeAlike(executor, { ...common, ...piece }, home));
  return written;
}

async function idsOf(catalog: Catalog, { contract }: Checking, inside?: Executor): Promise<ContractIds> {
  const { ids } = await catalog.ids([contract], contract.kind === "event", inside);
  const found = ids.get(contract);
  if (found === undefined) throw errorOf("PH_INTERNAL", `The contract ${contract.name} was not registered.`);
  return found;
}

/** The application may have set a shorter time for transactions of its own that are idle. */
const patient = { marked: false, idleMs: 300_000 } as const;

async function inOneTransaction<T>(database: Database, work: (tx: Executor) => Promise<T>): Promise<T> {
  const open = await database.begin(patient);
  try {
    const result = await work(open);
    await open.commit();
    return result;
  } catch (error) {
    await open.rollback();
    throw error;
  }
}

function wouldDeadlock({ contract }: Checking): WouldDeadlockError {
  const verb = contract.kind === "event" ? "publish" : "send";
  return new WouldDeadlockError(
    "PH_WOULD_DEADLOCK",
    `${verb}(${contract.name}) would wait for the transaction that it is called from: the embedded database has one connection. Use the ${verb} of the transaction's or handler's context instead.`,
  );
}
