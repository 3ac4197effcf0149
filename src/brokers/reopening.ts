/** A connection that is lost now and then, and opened again by whoever needs it next: one for all that ask at the same time. */
export class Reopening<T extends { readonly lost: unknown }> {
  readonly #open: (signal: AbortSignal) => Promise<T>;
  readonly #closing = new AbortController();
  #last: { readonly promise: Promise<T>; opened: T | undefined; failed: boolean } | undefined;

  /** `open` gives up when its signal fires. */
  constructor(open: (signal: AbortSignal) => Promise<T>) {
    this.#open = open;
  }

  /** The first time; `signal` gives up. */
  async first(signal: AbortSignal): Promise<T> {
    return await this.#begin(AbortSignal.any([signal, this.#closing.signal]));
  }

  /** The one that is open, or the next. Rejects when it cannot be opened; the next call tries again. */
  current(): Promise<T> {
    const last = this.#last;
    const usable = last !== undefined && !last.failed && last.opened?.lost === undefined;
    return usable ? last.promise : this.#begin(this.#closing.signal);
  }

  /** What is open, for its owner to close. Nothing is opened from now on. */
  async end(): Promise<T | undefined> {
    this.#closing.abort(new Error("it was closed"));
    return await this.#last?.promise.catch(() => undefined);
  }

  #begin(signal: AbortSignal): Promise<T> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason);
    const promise = this.#open(signal);
    const next: { promise: Promise<T>; opened: T | undefined; failed: boolean } = {
      promise,
      opened: undefined,
      failed: false,
    };
    this.#last = next;
    promise.then(
      (opened) => {
        next.opened = opened;
      },
      () => {
        next.failed = true;
      },
    );
    return promise;
  }
}
