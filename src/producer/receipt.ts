/** Receipts: what `send` returns. Everything is read from the database when asked; a receipt holds an id and the contract, and nothing else. */
import { receiveResult } from "../contracts/check.js";
import type { AnyContract } from "../contracts/contract.js";
import { issuesInWords } from "../contracts/issues.js";
import type { Executor } from "../core/database.js";
import {
  ContractViolationError,
  DeadlineError,
  NoResultError,
  NotCommittedError,
  UnknownMessageError,
  WrongKindError,
} from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkOptions, type Fields } from "../core/options.js";
import { states } from "../core/states.js";
import { type CancelAnswer, cancelMessage } from "../store/cancel.js";
import { type Places, publicId } from "../store/publish.js";
import { messageStatus, type ReceiverStatus } from "../store/status.js";
import type { ReceiptWithResult, Status } from "./say.js";
import type { Found, Settlements } from "./settlements.js";

/** What a receipt asks with; `check` refuses calls that would wait for the caller's own transaction. */
export interface Asking extends Executor {
  check(call: string): void;
  readonly settlements: Settlements;
  /** Beside the pool, whose connections handlers may hold all. */
  readonly side: Executor;
  /** Who cancels, for the record. */
  readonly service: string;
}

const withinMs = { type: "duration", min: 0, max: limits.waitMs, required: true } as const;

/** The options of `settled`, as data. */
export const settledFields = {
  withinMs: { ...withinMs, doc: "How long to wait; on time-out the status so far comes back" },
} as const satisfies Fields;

/** The options of `result`, as data. */
export const resultFields = {
  withinMs: { ...withinMs, doc: "How long to wait; on time-out it rejects with the status so far" },
} as const satisfies Fields;

type Contract = AnyContract<"command">;

export class SentReceipt implements ReceiptWithResult<unknown> {
  readonly #asking: Asking | (() => Promise<Asking>);
  readonly #contract: Contract | undefined;
  #id: string | undefined;
  #places: Places | undefined;
  #index = 0;
  #why = "the transaction that writes it has not committed yet";

  /** `contract`: undefined for a receipt that was made from an id alone. */
  constructor(asking: Asking | (() => Promise<Asking>), contract: Contract | undefined, id?: string) {
    this.#asking = asking;
    this.#contract = contract;
    this.#id = id;
  }

  /** Of a message that is written already; its id is made when it is asked for. */
  static at(asking: Asking, contract: Contract, places: Places, index: number): SentReceipt {
    const receipt = new SentReceipt(asking, contract);
    receipt.written(places, index);
    return receipt;
  }

  get id(): string {
    const place = this.#places?.at(this.#index);
    if (place !== undefined) this.#id ??= publicId(place);
    if (this.#id === undefined) {
      throw new NotCommittedError(
        "PH_NOT_COMMITTED",
        `The receipt has no id: ${this.#why}. An id exists once the transaction or handler has committed.`,
      );
    }
    return this.#id;
  }

  /** What JSON and console.log show of it; the id is null until there is one. */
  toJSON(): { readonly id: string | null; readonly contract: string | null } {
    const written = this.#id !== undefined || this.#places !== undefined;
    return { id: written ? this.id : null, contract: this.#contract?.name ?? null };
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    const { id, contract } = this.toJSON();
    return `Receipt ${JSON.stringify({ id, ...(contract === null ? {} : { contract }) })}`;
  }

  /** Called by the buffer that the message was in. */
  written(places: Places, index: number): void {
    this.#places = places;
    this.#index = index;
  }

  /** Called by the buffer when its transaction or handler ended without a commit. */
  dropped(certain: boolean): void {
    this.#why = certain
      ? "its transaction or handler did not commit, and the message was never sent"
      : "the connection was lost during COMMIT, and whether the message was sent is not known";
  }

  async status(): Promise<Status> {
    const asking = await this.#ask("receipt.status()");
    return this.#statusOf(this.#receiverOf(await messageStatus(asking, this.id)));
  }

  async settled(options: { readonly withinMs: number }): Promise<Status> {
    const { withinMs } = checkOptions(options, settledFields, "settled()");
    const asking = await this.#ask("receipt.settled()");
    return this.#statusOf(this.#receiverOf(await asking.settlements.wait(this.id, withinMs)));
  }

  async result(options: { readonly withinMs: number }): Promise<unknown> {
    const { withinMs } = checkOptions(options, resultFields, "result()");
    const contract = this.#contract;
    if (contract?.["~posthorn"].inside.result === undefined) throw noResult(contract);
    const asking = await this.#ask("receipt.result()");
    const receiver = this.#receiverOf(await asking.settlements.wait(this.id, withinMs));
    if (!states[receiver.state].ended) {
      const message = `The message ${this.id} had not ended within ${withinMs} ms: it is ${receiver.state}. Wait longer, or ask again later.`;
      const facts = { id: this.id, withinMs, status: await this.#statusOf(receiver) };
      throw new DeadlineError("PH_RESULT_TIMEOUT", message, facts);
    }
    if (receiver.state !== "succeeded") throw notSucceeded(this.id, receiver);
    if (!("result" in receiver)) {
      const message = `The message ${this.id} succeeded, and no result of it is kept: its time has passed (results.keepMs of the queue), or its handler's contract had none.`;
      throw new NoResultError("PH_RESULT_GONE", message, { id: this.id });
    }
    const received = await receiveResult(contract, receiver.result);
    if (received.ok) return received.payload;
    const message = `The result of ${contract.name} does not fit its schema any more: ${issuesInWords(received.issues)}.`;
    throw new ContractViolationError("PH_PAYLOAD_INVALID", message, { id: this.id, issues: received.issues });
  }

  async cancel(): Promise<CancelAnswer> {
    const asking = await this.#ask("receipt.cancel()");
    return cancelMessage(asking.side, this.id, asking.service);
  }

  async #ask(call: string): Promise<Asking> {
    const asking = typeof this.#asking === "function" ? await this.#asking() : this.#asking;
    asking.check(call);
    return asking;
  }

  #receiverOf(found: Found): ReceiverStatus {
    const { id } = this;
    const receiver = found?.[0];
    if (receiver === undefined) {
      throw new UnknownMessageError("PH_UNKNOWN_MESSAGE", `No message has the id ${id}. Is this another database?`, {
        id,
      });
    }
    const { kind, contract } = receiver;
    if (kind === "event") {
      const message = `The message ${id} is the event ${contract}, and events have no receipts. Use post.statusOf(id).`;
      throw new WrongKindError("PH_WRONG_KIND", message, { id, contract });
    }
    if (this.#contract !== undefined && contract !== undefined && contract !== this.#contract.name) {
      const message = `The message ${id} is a ${contract}, not a ${this.#contract.name}. Make the receipt with its own contract.`;
      throw new UnknownMessageError("PH_UNKNOWN_MESSAGE", message, { id, contract });
    }
    return receiver;
  }

  /** With the output of the result's schema; one that does not fit any more is left out, and told by `result`. */
  async #statusOf(receiver: ReceiverStatus): Promise<Status> {
    const status = asStatus(receiver);
    if (!("result" in receiver)) return status;
    if (this.#contract === undefined) return { ...status, result: receiver.result };
    const received = await receiveResult(this.#contract, receiver.result);
    return received.ok ? { ...status, result: received.payload } : status;
  }
}

function noResult(contract: Contract | undefined): NoResultError {
  return contract === undefined
    ? new NoResultError(
        "PH_NO_RESULT",
        "This receipt was made from an id alone. Pass the contract as well, post.receipt(SendEmail, id); or use settled().",
      )
    : new NoResultError(
        "PH_NO_RESULT",
        `${contract.name} has no result. Give its contract a schema for one, or use settled().`,
        { contract: contract.name },
      );
}

function notSucceeded(id: string, { state, reason, history = [] }: ReceiverStatus): NoResultError {
  const last = history.findLast(({ error }) => error !== undefined)?.error;
  const why = [reason, last?.message].filter((part) => part !== undefined && part !== null).join(": ");
  return new NoResultError(
    "PH_NOT_SUCCEEDED",
    `The message ${id} has no result, because it is ${state}${why === "" ? "" : `: ${why.slice(0, limits.issueLength).replace(/\.$/, "")}`}.`,
    { id, state, ...(reason ? { reason } : {}), history },
  );
}

function asStatus(receiver: ReceiverStatus): Status {
  return {
    state: receiver.state,
    attempt: receiver.attempts ?? 0,
    ...(receiver.dueAt ? { dueAt: new Date(receiver.dueAt) } : {}),
    // Of one that runs it would say why it had waited.
    ...(receiver.reason && receiver.state !== "running" ? { reason: receiver.reason } : {}),
    ...("progress" in receiver ? { progress: receiver.progress } : {}),
    ...(receiver.cancelRequestedAt ? { cancelRequestedAt: new Date(receiver.cancelRequestedAt) } : {}),
    history: receiver.history ?? [],
  };
}
