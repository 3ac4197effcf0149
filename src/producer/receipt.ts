/** Receipts: what `send` returns. Everything is read from the database when asked; a receipt holds an id and nothing else. */

import type { Executor } from "../core/database.js";
import { NotBuiltError, NotCommittedError, UnknownMessageError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkOptions } from "../core/options.js";
import { states } from "../core/states.js";
import { type Places, publicId } from "../store/publish.js";
import { messageStatus, type ReceiverStatus } from "../store/status.js";
import type { ReceiptWithResult, Status } from "./say.js";

/** What a receipt asks with; `check` refuses calls that would wait for the caller's own transaction. */
export interface Asking extends Executor {
  check(call: string): void;
}

/** The options of `settled`, as data. */
export const settledFields = {
  withinMs: {
    type: "duration",
    doc: "How long to wait; on time-out the status so far comes back",
    min: 0,
    max: limits.waitMs,
    required: true,
  },
} as const;

/** Waits between two looks at a message: soon at first. */
const firstLookMs = 5;
const longestLookMs = 250;

export class SentReceipt implements ReceiptWithResult<never> {
  readonly #asking: Asking;
  #places: Places | undefined;
  #index: number;
  #why = "the transaction that writes it has not committed yet";

  constructor(asking: Asking, places?: Places, index = 0) {
    this.#asking = asking;
    this.#places = places;
    this.#index = index;
  }

  get id(): string {
    const place = this.#places?.at(this.#index);
    if (place === undefined) {
      throw new NotCommittedError(
        "PH_NOT_COMMITTED",
        `The receipt has no id: ${this.#why}. An id exists once the transaction or handler has committed.`,
      );
    }
    return publicId(place);
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
    this.#asking.check("receipt.status()");
    const { id } = this;
    const receivers = await messageStatus(this.#asking, id);
    const receiver = receivers?.[0];
    if (receiver === undefined) {
      throw new UnknownMessageError("PH_UNKNOWN_MESSAGE", `No message has the id ${id}. Is this another database?`, {
        id,
      });
    }
    return asStatus(receiver);
  }

  async settled(options: { readonly withinMs: number }): Promise<Status> {
    const { withinMs } = checkOptions(options, settledFields, "settled()");
    const until = performance.now() + withinMs;
    for (let look = firstLookMs; ; look = Math.min(longestLookMs, look * 2)) {
      const status = await this.status();
      const left = until - performance.now();
      if (states[status.state].ended || left <= 0) return status;
      await new Promise((resolve) => setTimeout(resolve, Math.min(look, left)));
    }
  }

  cancel(): Promise<never> {
    return notBuilt("receipt.cancel()");
  }

  result(): Promise<never> {
    return notBuilt("receipt.result()");
  }
}

async function notBuilt(call: string): Promise<never> {
  throw new NotBuiltError("PH_NOT_BUILT", `${call} is planned and not built yet. Use status() or settled().`, { call });
}

export function asStatus(receiver: ReceiverStatus): Status {
  return {
    state: receiver.state,
    attempt: receiver.attempts ?? 0,
    ...(receiver.dueAt ? { dueAt: new Date(receiver.dueAt) } : {}),
    ...(receiver.reason ? { reason: receiver.reason } : {}),
    history: receiver.history ?? [],
  };
}
