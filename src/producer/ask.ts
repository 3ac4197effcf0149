/**
 * Queries: asked and answered in this process, never stored. The answer runs in a read-only transaction; by the deadline the caller
 * has it or an error, whatever the answer function does.
 */
import { checkAnswer, checkRequest } from "../contracts/check.js";
import { requireKind } from "../contracts/require-kind.js";
import type { Database } from "../core/database.js";
import { ConfigurationError, DeadlineError, NoAnswerError, WouldDeadlockError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkOptions } from "../core/options.js";
import { sharedAbort } from "../core/shared-abort.js";
import { show } from "../core/show.js";
import { runSealed } from "./transaction.js";

export interface AnswerContext<Tx> {
  /** Your own client, in a read-only transaction. */
  readonly tx: Tx;
  /** Fires at the deadline, or when the caller gives up. */
  readonly signal: AbortSignal;
}

export interface AskOptions {
  /**
   * How long to wait; replaces the deadline of the contract.
   *
   * Range 1 to 600000.
   */
  readonly deadlineMs?: number;
  /** Gives up early. */
  readonly signal?: AbortSignal;
}

type Answer = (request: unknown, context: AnswerContext<unknown>) => unknown;

/** The options of `ask`, as data. */
export const askFields = {
  deadlineMs: {
    type: "duration",
    doc: "How long to wait; replaces the deadline of the contract",
    min: 1,
    max: limits.deadlineMs,
  },
  signal: {
    type: "custom",
    doc: "Gives up early",
    words: "an AbortSignal",
    check: (value: unknown, path: string): AbortSignal => {
      if (value instanceof AbortSignal) return value;
      throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be an AbortSignal, got ${show(value)}.`, {
        path,
      });
    },
  },
} as const;

export class Answers {
  readonly #answers = new Map<string, Answer>();

  answer(query: unknown, answer: unknown): void {
    const { name } = requireKind(query, "query", "answer");
    if (typeof answer !== "function") {
      throw new ConfigurationError("PH_OPTION_INVALID", `answer(${name}, …) takes a function as its second argument.`);
    }
    if (this.#answers.has(name)) {
      throw new ConfigurationError("PH_DECLARED_TWICE", `${name} has an answer in this process already. Remove one.`, {
        query: name,
      });
    }
    this.#answers.set(name, (request, context) => answer(request, context));
  }

  /** Everything is within the deadline: opening the database and the schemas too. */
  async ask(open: () => Promise<Database>, query: unknown, request: unknown, options: unknown): Promise<unknown> {
    const contract = requireKind(query, "query", "ask");
    const given = options === undefined ? {} : checkOptions(options, askFields, "ask()");
    const answer = this.#answers.get(contract.name);
    if (answer === undefined) {
      throw new NoAnswerError(
        "PH_NO_ANSWER",
        `Nothing answers ${contract.name} in this process. Import the file that calls post.answer(${contract.name}, …).`,
        { query: contract.name },
      );
    }
    const deadlineMs = given.deadlineMs ?? contract.deadlineMs ?? limits.deadlineMs;
    return within(contract.name, deadlineMs, given.signal, async (signal) => {
      const checked = await checkRequest(contract, request);
      const result = await answerIn(contract.name, await open(), answer, checked.value, signal);
      return (await checkAnswer(contract, result)).value;
    });
  }
}

async function answerIn(
  name: string,
  database: Database,
  answer: Answer,
  request: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  if (database.single && database.insideTransaction()) {
    throw new WouldDeadlockError(
      "PH_WOULD_DEADLOCK",
      `ask(${name}) would wait for the transaction that it is called from: the embedded database has one connection. Ask before it, or read through tx.`,
    );
  }
  const open = await database.begin({ marked: false, readOnly: true });
  // An answer function that never returns must not keep the connection: at the deadline the transaction ends without it.
  const letGo = (): void => {
    open.seal();
    void open.rollback();
  };
  signal.addEventListener("abort", letGo, { once: true });
  try {
    signal.throwIfAborted();
    return await runSealed(open, async () => answer(request, { tx: open.native, signal }));
  } finally {
    signal.removeEventListener("abort", letGo);
    // Nothing was written, so there is nothing to commit.
    await open.rollback();
  }
}

/** Runs until the deadline or the caller's signal. The work may go on; its outcome is then nobody's. */
async function within<T>(
  name: string,
  deadlineMs: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = sharedAbort();
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const ended = new Promise<never>((_resolve, reject) => {
    const end = (error: DeadlineError): void => {
      controller.abort(error);
      reject(error);
    };
    timer = setTimeout(
      () =>
        end(
          new DeadlineError(
            "PH_DEADLINE",
            `${name} was not answered within ${deadlineMs} ms, and its transaction was ended. Ask again, allow more deadlineMs, or make it a command if nobody waits.`,
            { query: name, deadlineMs },
          ),
        ),
      deadlineMs,
    );
    onAbort = () =>
      end(
        new DeadlineError(
          "PH_ABORTED",
          `The caller gave up waiting for ${name}: the signal that it passed to ask() fired.`,
          { query: name },
          outer?.reason,
        ),
      );
    if (outer?.aborted) onAbort();
    else outer?.addEventListener("abort", onAbort, { once: true });
  });
  try {
    // Either may lose; neither may become an unhandled rejection.
    ended.catch(() => undefined);
    if (outer?.aborted) return await ended;
    const working = work(controller.signal);
    working.catch(() => undefined);
    return await Promise.race([working, ended]);
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) outer?.removeEventListener("abort", onAbort);
  }
}
