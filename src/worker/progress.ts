/**
 * What running handlers tell of their progress: the last value of each, written at most once a second a message, for all runs of the process in
 * one statement. Never the handler's trouble: what cannot be written is told to the logger and forgotten.
 */
import type { Executor } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { toJson } from "../core/json.js";
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";
import { type RunPlace, writeProgress } from "../store/results.js";
import type { Delivery } from "../store/work.js";

export interface ProgressOptions {
  readonly executor: Executor;
  readonly worker: string;
  readonly onError: (error: unknown) => void;
}

interface Told extends RunPlace {
  value: unknown;
  /** Whether the value has not been written yet. */
  fresh: boolean;
  /** The earliest time of the next write. */
  notBefore: number;
}

/** How long the first value waits for company. */
const soonMs = 20;
const everyMs = 1_000;

export class Progress {
  readonly #options: ProgressOptions;
  readonly #told = new Map<string, Told>();
  #ended: RunPlace[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #stopped = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** `value` is plain JSON that nobody changes any more. */
  tell(delivery: Delivery, value: unknown): void {
    const key = keyOf(delivery);
    const told = this.#told.get(key);
    if (told === undefined) {
      this.#told.set(key, { ...placeOf(delivery), value, fresh: true, notBefore: performance.now() + soonMs });
    } else {
      told.value = value;
      told.fresh = true;
    }
    this.#schedule();
  }

  /** Called for runs that have told something. */
  ended(delivery: Delivery): void {
    if (!this.#told.delete(keyOf(delivery))) return;
    this.#ended.push(placeOf(delivery));
    this.#schedule();
  }

  /** Removes what is left of runs that have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#writing;
    if (this.#ended.length > 0) await this.#write();
  }

  /** Drops everything; the rows of a worker that is gone are pruned. */
  abandon(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#writing !== undefined || this.#stopped) return;
    const now = performance.now();
    let at = this.#ended.length > 0 ? now + everyMs / 2 : Number.POSITIVE_INFINITY;
    for (const { fresh, notBefore } of this.#told.values()) if (fresh) at = Math.min(at, notBefore);
    if (at === Number.POSITIVE_INFINITY) return;
    // The process is kept alive by what runs, not by this.
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#writing = this.#write().finally(() => {
          this.#writing = undefined;
          this.#schedule();
        });
      },
      Math.max(0, at - now),
    ).unref();
  }

  async #write(): Promise<void> {
    const { executor, worker, onError } = this.#options;
    const now = performance.now();
    const due = [...this.#told.values()].filter(({ fresh, notBefore }) => fresh && notBefore <= now);
    const ended = this.#ended;
    this.#ended = [];
    for (const told of due) {
      told.fresh = false;
      told.notBefore = now + everyMs;
    }
    const values = due.map(({ subscription, message, delivery, value }) => ({
      subscription,
      message,
      delivery,
      value,
    }));
    try {
      await writeProgress(executor, worker, values, ended);
    } catch (error) {
      if (!this.#stopped) this.#ended.push(...ended);
      onError(error);
    }
  }
}

/** A number from 0 to 1, or small JSON: a copy that nobody changes any more. Throws for anything else. */
export function checkProgress(value: unknown): unknown {
  if (typeof value === "number") {
    if (value >= 0 && value <= 1) return value;
    const message = `progress() takes a number from 0 to 1, or a small JSON value; got ${show(value)}.`;
    throw errorOf("PH_OPTION_INVALID", message, {});
  }
  const { json } = toJson(value, "progress");
  const bytes = Buffer.byteLength(json);
  if (bytes <= limits.progressBytes) return JSON.parse(json);
  const message = `The progress has ${bytes} bytes as JSON; ${limits.progressBytes} are allowed.`;
  throw errorOf("PH_PAYLOAD_TOO_LARGE", message, { bytes, maxBytes: limits.progressBytes });
}

function keyOf({ subscription, id }: Delivery): string {
  return `${subscription}/${id}`;
}

function placeOf({ subscription, id, delivery }: Delivery): RunPlace {
  return { subscription, message: id, delivery };
}
