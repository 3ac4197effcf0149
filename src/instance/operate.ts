/** `post.operate`: what an operator does, for programs. The command line and SQL do the same by the same functions. */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkName } from "../core/names.js";
import { checkOptions } from "../core/options.js";
import { show } from "../core/show.js";
import { suggestion } from "../core/suggest.js";
import { drive, type Pace } from "../maintenance/operation.js";
import type { Asking } from "../producer/receipt.js";
import { countUnfit, discardUnfit, redriveUnfit } from "../store/intakes.js";
import { type LetterFilter, registered } from "../store/operate.js";
import {
  beginErase,
  beginLetters,
  beginPurge,
  beginRemove,
  beginRemoveIntake,
  beginReplay,
  isDrained,
  type ListedSubscription,
  listSubscriptions,
  type Operation,
  operations,
  type PauseChange,
  pause,
  proceed,
  type RenamedIntake,
  renameIntake,
  resume,
  stopOperation,
  type Unsettled,
  unsettled,
  type WaitingState,
} from "../store/operations.js";
import { type UnendedState, type WaitingMessages, waitingMessages } from "../store/waiting.js";
import {
  auditFields,
  drainFields,
  eraseFields,
  lettersFields,
  paceFields,
  pauseFields,
  purgeFields,
  removeFields,
  replayFields,
  resumeFields,
  waitingFields,
} from "./operate-fields.js";

/** Who orders something, and why: both are recorded. */
export interface By {
  readonly by: string;
  readonly reason?: string;
}

/** How it is done: at most so many messages a second, told after each piece, ended by a signal. What a signal ends can be continued. */
export interface Driving {
  readonly perSecond?: number;
  readonly onProgress?: (operation: Operation) => void;
  readonly signal?: AbortSignal;
}

/** Repeats what is changed: the name, or the key. */
export interface Confirmed {
  readonly confirm: string;
}

/** Which messages of a list; all of it without any, and of invalid messages those of intakes as well. */
export interface LettersOptions extends By, Driving {
  readonly list: "dead-letters" | "invalid";
  readonly subscription?: string;
  readonly contract?: string;
  /** The fingerprint of the newest error, as `posthorn errors` shows it. */
  readonly group?: string;
}

/** What became of a list. What intakes took in is recorded by an operation of its own. */
export interface LettersOperation extends Operation {
  /** Entries of intakes that are read again by whoever runs them, within about a second, or that were removed. */
  readonly intakes: number;
}

/**
 * What an operator does. Everything is recorded with who, what, when and how many.
 *
 * Delivery: what takes more than a moment is done in pieces, each a transaction of its own; when the process dies, `continue` goes on with it.
 * Errors: `ConfigurationError` (PH_NAME_UNKNOWN) for a name that is not known, PH_CONFIRMATION_MISSING for a confirmation that does not fit.
 */
export interface Operate {
  /** Nobody in the fleet takes messages of it, from about a second later; what runs goes on to its end. */
  pause(name: string, options: By): Promise<PauseChange>;
  resume(name: string, options: { readonly by: string }): Promise<PauseChange>;
  /** What has not ended. */
  unsettled(name: string): Promise<Unsettled>;
  /** The oldest messages that have not ended, with their ids. Cost: by what it shows, however much waits. */
  waiting(
    name: string,
    options?: { readonly limit?: number; readonly states?: readonly UnendedState[] },
  ): Promise<WaitingMessages>;
  /** Waits until nothing waits and nothing runs; false when the time is over. Errors: PH_PAUSED. */
  drain(name: string, options?: { readonly withinMs?: number; readonly signal?: AbortSignal }): Promise<boolean>;
  /** Ends all that waits now and has not begun, as discarded. */
  purge(
    name: string,
    options: By & Confirmed & Driving & { readonly states?: readonly WaitingState[] },
  ): Promise<Operation>;
  /** Gives entries of a list a new delivery, in the order of the list. */
  redrive(options: LettersOptions): Promise<LettersOperation>;
  /** Ends entries of a list for good. */
  discard(options: LettersOptions & { readonly reason: string }): Promise<LettersOperation>;
  /** Has messages that were said in a time and handled be handled once more. Errors: PH_NOT_KEPT, PH_NO_WORKER. */
  replay(
    name: string,
    options: By & Confirmed & Driving & { readonly from: Date; readonly to?: Date; readonly contract?: string },
  ): Promise<Operation>;
  /** Overwrites what was said under a key, and removes what came of it. Errors: PH_SCHEDULE_SENDS. */
  erase(
    key: string,
    options: By & Confirmed & Driving & { readonly contract?: string; readonly channel?: string },
  ): Promise<Operation>;
  subscriptions(): Promise<readonly ListedSubscription[]>;
  /** Removes a subscription with all that it has not handled. Errors: PH_SUBSCRIPTION_IN_USE. */
  removeSubscription(name: string, options: By & Confirmed & Driving): Promise<Operation>;
  /**
   * Removes an intake that is gone from the code, with its list of what fitted nothing. What it took in stays, and is recognised where an intake of this name
   * takes it in again. Errors: PH_INTAKE_IN_USE.
   */
  removeIntake(name: string, options: By & Confirmed & Driving): Promise<Operation>;
  /**
   * Carries an intake over to another name, at once: what it took in is recognised under that one, and its list goes with it. Where an intake of that name is known
   * already the two become one, with the newer declaration.
   *
   * Errors: PH_INTAKE_IN_USE while a process runs one of the two; PH_NAME_INVALID, PH_CONTRACT_CONFLICT for a name that cannot be given.
   */
  renameIntake(from: string, to: string, options: By): Promise<RenamedIntake>;
  /** The record, the newest first. */
  audit(options?: { readonly limit?: number; readonly unfinished?: boolean }): Promise<readonly Operation[]>;
  /** Goes on with an operation, whoever began it. Errors: PH_OPERATION_UNKNOWN. */
  continue(operation: string, options?: Driving): Promise<Operation>;
  /** Ends an operation where it is; false where it does not run. */
  stop(operation: string): Promise<boolean>;
}

type Open = () => Promise<Asking>;

const lookMs = 250;

/** What a call is about: `reader` a queue or subscription. */
type Named = "reader" | "intake" | "either";

const inWords: Readonly<Record<Named, string>> = {
  reader: "queue or subscription",
  intake: "intake",
  either: "queue, subscription or intake",
};

export class Operating implements Operate {
  readonly #open: Open;

  constructor(open: Open) {
    this.#open = open;
  }

  async pause(name: string, options: By): Promise<PauseChange> {
    const { by, reason } = checkOptions(options, pauseFields, "pause()");
    return pause(await this.#of(name, "pause()", "either"), name, { by, reason });
  }

  async resume(name: string, options: { readonly by: string }): Promise<PauseChange> {
    const { by } = checkOptions(options, resumeFields, "resume()");
    return resume(await this.#of(name, "resume()", "either"), name, { by });
  }

  async unsettled(name: string): Promise<Unsettled> {
    return unsettled(await this.#of(name, "unsettled()"), name);
  }

  async waiting(name: string, options: Parameters<Operate["waiting"]>[1] = {}): Promise<WaitingMessages> {
    const { limit, states } = checkOptions(options, waitingFields, "waiting()");
    return waitingMessages(await this.#of(name, "waiting()"), name, limit, states);
  }

  async drain(name: string, options: Parameters<Operate["drain"]>[1] = {}): Promise<boolean> {
    const { withinMs, signal } = checkOptions(options, drainFields, "drain()");
    const until = performance.now() + withinMs;
    const executor = await this.#of(name, "drain()");
    const { paused } = await unsettled(executor, name);
    if (paused !== null) {
      const message = `"${name}" is paused since ${paused.at} by ${paused.by}, so nothing leaves it. Resume it first.`;
      throw new ConfigurationError("PH_PAUSED", message, { name });
    }
    for (;;) {
      if (await isDrained(executor, name)) return true;
      if (performance.now() >= until || signal?.aborted) return false;
      await new Promise((resolve) => setTimeout(resolve, lookMs));
    }
  }

  async purge(name: string, options: Parameters<Operate["purge"]>[1]): Promise<Operation> {
    const { by, reason, confirm, states, ...pace } = checkOptions(options, purgeFields, "purge()");
    const executor = await this.#of(name, "purge()");
    return drive(executor, await beginPurge(executor, name, { by, reason }, states ?? allStates, confirm), pace);
  }

  async redrive(options: LettersOptions): Promise<LettersOperation> {
    return this.#letters("redrive", options);
  }

  async discard(options: LettersOptions & { readonly reason: string }): Promise<LettersOperation> {
    return this.#letters("discard", options);
  }

  async #letters(verb: "redrive" | "discard", options: LettersOptions): Promise<LettersOperation> {
    const checked = checkOptions(options, lettersFields, `${verb}()`);
    const { by, reason, list, subscription, contract, group, ...pace } = checked;
    const executor = await (subscription === undefined ? this.#any(`${verb}()`) : this.#of(subscription, `${verb}()`));
    const filter: LetterFilter = {
      list: list === "invalid" ? "invalid" : "dead-letters",
      ...(subscription !== undefined && { subscription }),
      ...(contract !== undefined && { contract }),
      ...(group !== undefined && { group }),
    };
    const narrowed = (subscription ?? contract ?? group) !== undefined;
    // At once, and first: what follows takes its time, and can be gone on with by its number.
    const intakes = list === "invalid" && !narrowed ? await changeAllUnfit(executor, verb, by, reason ?? "") : 0;
    const begun = await beginLetters(executor, verb, filter, { by, reason });
    return { ...(await drive(executor, begun, pace)), intakes };
  }

  async replay(name: string, options: Parameters<Operate["replay"]>[1]): Promise<Operation> {
    const { by, reason, confirm, from, to, contract, ...pace } = checkOptions(options, replayFields, "replay()");
    const executor = await this.#of(name, "replay()");
    const range = { from: from.toISOString(), to: to?.toISOString(), contract };
    return drive(executor, await beginReplay(executor, name, range, { by, reason }, confirm), pace);
  }

  async erase(key: string, options: Parameters<Operate["erase"]>[1]): Promise<Operation> {
    const { by, reason, confirm, contract, channel, ...pace } = checkOptions(options, eraseFields, "erase()");
    const executor = await this.#any("erase()");
    return drive(executor, await beginErase(executor, key, { contract, channel }, { by, reason }, confirm), pace);
  }

  async subscriptions(): Promise<readonly ListedSubscription[]> {
    return listSubscriptions(await this.#any("subscriptions()"));
  }

  async removeSubscription(name: string, options: By & Confirmed & Driving): Promise<Operation> {
    const { by, reason, confirm, ...pace } = checkOptions(options, removeFields, "removeSubscription()");
    const executor = await this.#of(name, "removeSubscription()");
    return drive(executor, await beginRemove(executor, name, { by, reason }, confirm), pace);
  }

  async removeIntake(name: string, options: By & Confirmed & Driving): Promise<Operation> {
    const { by, reason, confirm, ...pace } = checkOptions(options, removeFields, "removeIntake()");
    const executor = await this.#of(name, "removeIntake()", "intake");
    return drive(executor, await beginRemoveIntake(executor, name, { by, reason }, confirm), pace);
  }

  async renameIntake(from: string, to: string, options: By): Promise<RenamedIntake> {
    const { by, reason } = checkOptions(options, pauseFields, "renameIntake()");
    const executor = await this.#of(from, "renameIntake()", "intake");
    return renameIntake(executor, from, checkName(to, "intake"), { by, reason });
  }

  async audit(options: Parameters<Operate["audit"]>[0] = {}): Promise<readonly Operation[]> {
    const { limit, unfinished } = checkOptions(options, auditFields, "audit()");
    return operations(await this.#any("audit()"), limit, unfinished);
  }

  async continue(operation: string, options: Driving = {}): Promise<Operation> {
    const pace: Pace = checkOptions(options, paceFields, "continue()");
    const executor = await this.#any("continue()");
    const { busy: _busy, ...begun } = await proceed(executor, numberOf(operation), 1);
    return drive(executor, begun, pace);
  }

  async stop(operation: string): Promise<boolean> {
    return stopOperation(await this.#any("stop()"), numberOf(operation));
  }

  async #any(call: string): Promise<Asking> {
    const asking = await this.#open();
    asking.check(call);
    return asking;
  }

  /** An unknown name is refused with the nearest that is known, and one of something else with what that is. */
  async #of(name: string, call: string, what: Named = "reader"): Promise<Asking> {
    const executor = await this.#any(call);
    const { subscriptions, intakes } = await registered(executor);
    const known = [...(what === "intake" ? [] : subscriptions), ...(what === "reader" ? [] : intakes)];
    const names = known.map((one) => one.name);
    if (names.includes(name)) return executor;
    const isOther = [...subscriptions, ...intakes].some((one) => one.name === name);
    const message = isOther
      ? `${show(name)} is ${other(what, call)}`
      : `No ${inWords[what]} is called ${show(name)}.${suggestion(String(name).slice(0, limits.nameLength), names)}`;
    throw new ConfigurationError("PH_NAME_UNKNOWN", message, { name: String(name).slice(0, limits.nameLength) });
  }
}

async function changeAllUnfit(executor: Asking, verb: "redrive" | "discard", by: string, reason: string) {
  const { upto } = await countUnfit(executor, {});
  if (upto === null) return 0;
  return verb === "redrive" ? redriveUnfit(executor, { upto }, by) : discardUnfit(executor, { upto }, by, reason);
}

function other(what: Named, call: string): string {
  return what === "intake"
    ? `a queue or subscription, and ${call} is for intakes. removeSubscription() removes a subscription.`
    : `an intake, and ${call} is for queues and subscriptions. post.intakes() says how it stands, and removeIntake() removes it.`;
}

const allStates = ["queued", "scheduled", "retrying", "parked"] as const;

function numberOf(operation: unknown): string {
  if (typeof operation === "string" && /^\d{1,18}$/.test(operation)) return operation;
  throw new ConfigurationError("PH_OPERATION_UNKNOWN", `${show(operation)} is no number of an operation. See audit().`);
}
