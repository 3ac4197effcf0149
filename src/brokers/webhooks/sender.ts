/**
 * The way out: one post for each message, a bounded number at once, of one key one after the other where its order is wanted.
 *
 * What is known about the receiver outlives a sender, since a relay opens a new one after trouble: that it is gone, and that it has just asked for a pause.
 */
import { sharedAbort } from "../../core/shared-abort.js";
import type { Outgoing, Sender, Sent } from "../broker.js";
import { type EnvelopeMode, encode, type HeaderStyle } from "../envelope.js";
import { setHeader } from "../header-names.js";
import { type Meaning, meaningOf } from "./answers.js";
import { onTheWire, unfitHeader } from "./headers.js";
import type { Key } from "./keys.js";
import { Poster, type PostOptions } from "./post.js";
import { sign, webhookId } from "./signature.js";
import { Slots } from "./slots.js";

export interface SenderOptions extends PostOptions {
  readonly keys: readonly Key[];
  readonly mode: EnvelopeMode;
  readonly style: HeaderStyle;
  /** Of one key one after the other. */
  readonly ordered: boolean;
  /** Set with each webhook. */
  readonly headers: Readonly<Record<string, string>>;
  readonly whenGone: "wait" | "refuse";
  readonly clean: (text: string) => string;
}

/** What is known about a receiver, in this process. */
export interface Standing {
  /** It answered 410: nothing is posted any more. */
  gone: boolean;
  /** It asked for silence, which this process keeps until then, in milliseconds of `performance.now()`: no clock that is set moves it. */
  silentUntil: number;
}

/**
 * The circuit of the fleet keeps the pause that a receiver asks for, by the clock of the database; whoever resumes it, or changes the url, ends it there. In
 * this process it only holds back what was taken before the circuit was open.
 */
const longestSilenceMs = 60_000;

/** One call of `send`. */
interface Call {
  readonly signal: AbortSignal;
  /** What found the receiver away; what was not begun then is not tried. */
  away: Sent | undefined;
  /** Posts in a row that nobody answered as they should, and that may each be the message's fault. */
  alone: number;
}

/** A receiver that answers none of so many is away. One that falls over a single message is not: the others are posted. */
const mostAlone = 3;

/** What is not tried any more because of it gets the same outcome without `alone`, which is about the one that was tried, and was not sent. */
function foundAway(call: Call, { alone, ...sent }: Extract<Sent, { kind: "unavailable" }>): void {
  if (alone) call.alone += 1;
  if (!alone || call.alone >= mostAlone) call.away ??= { ...sent, unsent: true };
}

const givenUp: Sent = {
  kind: "unavailable",
  error: new Error("It was not posted: the call was given up."),
  unsent: true,
};

export class WebhookSender implements Sender {
  readonly #options: SenderOptions;
  readonly #standing: Standing;
  readonly #poster: Poster;
  readonly #slots: Slots;
  readonly #calls = new Set<AbortController>();
  /** The last message of each key that is on its way, or waits for its turn. */
  readonly #keys = new Map<string, Promise<Sent>>();
  #closed = false;

  constructor(options: SenderOptions, standing: Standing) {
    this.#options = options;
    this.#standing = standing;
    this.#poster = new Poster(options);
    this.#slots = new Slots(options.connections);
  }

  async send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    // Each post listens to it.
    const controller = sharedAbort();
    const giveUp = (): void => controller.abort();
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted || this.#closed) giveUp();
    this.#calls.add(controller);
    try {
      const call: Call = { signal: controller.signal, away: undefined, alone: 0 };
      return await Promise.all(messages.map((message) => this.#inOrder(message, call)));
    } finally {
      this.#calls.delete(controller);
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** Looks whether somebody is there. Errors: why not. */
  async look(signal: AbortSignal): Promise<void> {
    if (this.#standing.gone || this.#isSilent) return;
    await this.#poster.connect(signal);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const call of this.#calls) call.abort();
    this.#poster.close();
  }

  /**
   * What fails does not hold back what has the same key and comes after it: whoever wants that hands over one at a time, as a relay does that keeps the
   * order of keys.
   */
  #inOrder(message: Outgoing, call: Call): Promise<Sent> {
    const { key } = message;
    if (key === null || !this.#options.ordered) return this.#inTurn(message, call);
    const before = this.#keys.get(key);
    const sent = before === undefined ? this.#inTurn(message, call) : before.then(() => this.#inTurn(message, call));
    this.#keys.set(key, sent);
    void sent.then(() => {
      if (this.#keys.get(key) === sent) this.#keys.delete(key);
    });
    return sent;
  }

  async #inTurn(message: Outgoing, call: Call): Promise<Sent> {
    const release = await this.#slots.take();
    try {
      const sent = this.#notNow(call) ?? (await this.#post(message, call));
      if (sent.kind === "unavailable") foundAway(call, sent);
      else call.alone = 0;
      return sent;
    } finally {
      release();
    }
  }

  /** What is not even posted. */
  #notNow({ signal, away }: Call): Sent | undefined {
    if (signal.aborted) return givenUp;
    if (this.#standing.gone) return this.#gone({ unsent: true });
    if (!this.#isSilent) return away;
    const error = new Error(`${this.#options.endpoint.where} asked for a pause a moment ago; it was not posted.`);
    // No time is said: whoever ended the pause for the fleet shall not have it begin anew.
    return { kind: "unavailable", error, unsent: true };
  }

  get #isSilent(): boolean {
    return this.#standing.silentUntil > performance.now();
  }

  async #post({ event }: Outgoing, { signal }: Call): Promise<Sent> {
    const { mode, style, endpoint, clean, headers } = this.#options;
    const unfit = unfitHeader(event.headers);
    if (unfit !== undefined) return { kind: "refused", reason: `It was not posted: ${unfit}.` };
    const encoded = encode(event, mode, style);
    const body = Buffer.from(encoded.body);
    const all: { [name: string]: string } = {};
    for (const given of [encoded.headers, headers]) {
      for (const name of Object.keys(given)) setHeader(all, name.toLowerCase(), onTheWire(given[name] ?? ""));
    }
    all["user-agent"] = "posthorn";
    all["content-type"] = onTheWire(encoded.contentType);
    all["content-length"] = String(body.length);
    this.#sign(all, webhookId(event.id), body);
    return this.#concluded(meaningOf(await this.#poster.post(all, body, signal), endpoint.where, clean));
  }

  #sign(headers: { [name: string]: string }, id: string, body: Buffer): void {
    const { keys } = this.#options;
    const { timestamp, signature } = sign(keys, id, Date.now(), body);
    headers["webhook-id"] = id;
    headers["webhook-timestamp"] = timestamp;
    if (keys.length > 0) headers["webhook-signature"] = signature;
  }

  #concluded(meaning: Meaning): Sent {
    if (meaning.kind === "gone") {
      this.#standing.gone = true;
      return this.#gone({ unsent: false });
    }
    if (meaning.kind === "unavailable" && meaning.retryAfterMs !== undefined) {
      const silenceMs = Math.min(meaning.retryAfterMs, longestSilenceMs);
      this.#standing.silentUntil = Math.max(this.#standing.silentUntil, performance.now() + silenceMs);
    }
    return meaning;
  }

  #gone({ unsent }: { readonly unsent: boolean }): Sent {
    const { endpoint, whenGone } = this.#options;
    const said = `${endpoint.where} answered 410 Gone: it wants no more webhooks, and this process posts nothing to it any more.`;
    if (whenGone === "refuse") return { kind: "refused", reason: said };
    const error = new Error(
      `${said} The messages wait. Change the url, or remove the relay and its subscription; a restart asks the receiver once more.`,
    );
    // No time is said: the circuit is the whole fleet's, and outlives the process that the receiver told it.
    return { kind: "unavailable", error, unsent };
  }
}
