/** Which requests are the same, as docs/guides/dedupe.md says it: for each key the message that stands for it, and whether its window is open. */
import type { Reference } from "./reference.js";
import type { Due, Said } from "./said.js";

export type Mode = "drop" | "throttle" | "debounce" | "replace" | "once-more";
export interface Dedupe {
  readonly mode: Mode;
  readonly key: string;
}

interface Request {
  said: Said;
  window: boolean;
  /** A pass looks at it again. */
  look: boolean;
  behind: number | null;
}

/** What becomes of a request: another message stands for it, or it is a new one that is due then. Null: at once, in the log. */
export type Verdict =
  | { readonly stands: Said }
  | { readonly due: Due | null; readonly behind: number | null; readonly window: boolean };

export class Requests {
  readonly #of = new Map<string, Request>();
  readonly #model: Reference;

  constructor(model: Reference) {
    this.#model = model;
  }

  /** What is to become of it. The later request changes the one that waits: `says` is its payload. */
  judge({ mode, key }: Dedupe, delayed: boolean, says: number, expires: boolean): Verdict {
    const held = this.#of.get(key);
    const own: Due = delayed ? "later" : "now";
    if (held === undefined) return this.#first(mode, own);
    if (mode === "drop") {
      if (held.window) return { stands: held.said };
      return { due: delayed ? "later" : null, behind: null, window: true };
    }
    const waiting = this.#waiting(held, mode);
    if (waiting !== undefined && (mode !== "throttle" || waiting.attempts + waiting.crashes === 0)) {
      this.#collapse(waiting, mode, own, says, expires);
      return { stands: waiting };
    }
    if (mode === "throttle") return { due: held.window ? "later" : null, behind: null, window: true };
    if (mode === "debounce") return { due: "later", behind: null, window: true };
    if (mode === "replace") return { due: own, behind: null, window: false };
    const running = held.said.at === "taken" ? held.said.row : this.#row(held.behind, "taken")?.row;
    return { due: running === undefined ? "now" : "never", behind: running ?? null, window: false };
  }

  #first(mode: Mode, own: Due): Verdict {
    if (mode === "debounce") return { due: "later", behind: null, window: true };
    if (mode === "replace" || mode === "once-more") return { due: own, behind: null, window: false };
    return { due: own === "later" ? "later" : null, behind: null, window: true };
  }

  #waiting({ said, behind }: Request, mode: Mode): Said | undefined {
    if (said.at === "waiting") return said;
    return mode === "once-more" ? this.#row(behind, "waiting") : undefined;
  }

  #row(row: number | null, at: Said["at"]): Said | undefined {
    return row === null ? undefined : this.#model.all.find((said) => said.row === row && said.at === at);
  }

  #collapse(waiting: Said, mode: Mode, own: Due, says: number, expires: boolean): void {
    if (mode === "once-more") return;
    const before = waiting.due;
    waiting.says = says;
    waiting.expires = expires;
    waiting.expired = false;
    const due = mode === "replace" ? own : mode === "debounce" ? "later" : before;
    // A retry is not hastened.
    waiting.due = waiting.attempts + waiting.crashes > 0 && before === "later" ? "later" : due;
    if (waiting.due === "now") waiting.dueSince = this.#model.tick();
  }

  /** It stands for its key from now on. */
  accepted({ key }: Dedupe, said: Said, { behind, window }: Exclude<Verdict, { stands: Said }>): void {
    this.#of.set(key, { said, window, look: !window, behind });
  }

  /** The window of a key is over. */
  pass(key: string): void {
    const held = this.#of.get(key);
    if (held === undefined) return;
    held.window = false;
    held.look = true;
  }

  get keys(): readonly string[] {
    return [...this.#of.keys()];
  }

  tidy(): void {
    for (const [key, held] of this.#of) {
      if (!held.look) continue;
      const lives =
        held.said.isLive ||
        this.#row(held.behind, "waiting") !== undefined ||
        this.#row(held.behind, "taken") !== undefined;
      if (lives) held.look = false;
      else this.#of.delete(key);
    }
  }
}
