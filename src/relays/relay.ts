/**
 * A relay: carries every message of a subscription or queue on to a broker. The engine around it is that of every handler: it decides about order,
 * retries, dead letters and the circuit by the errors that are told here.
 *
 * Killed before the broker's acknowledgement is settled: the message is sent again under the same id. Nothing is settled before it.
 */
import type { Outgoing, Sent } from "../brokers/broker.js";
import { neverReached } from "../brokers/never-reached.js";
import { cleaned, reasonOf } from "../core/clean.js";
import { composed } from "../core/composed.js";
import { ConfigurationError, named } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Logger } from "../core/logger.js";
import { openingFor, Reject, RetryLater } from "../policies/verdicts.js";
import type { Carried } from "../worker/carrier.js";
import { Connection } from "./connection.js";
import { type Naming, outgoingOf } from "./event.js";
import { type RelaySettings, relayedTo } from "./options.js";
import { Sending, unanswered } from "./sending.js";
import { Suspects } from "./suspects.js";

export interface RelayRun {
  readonly name: string;
  readonly service: string;
  readonly settings: RelaySettings;
  readonly logger: Logger;
}

export class Relay {
  readonly #run: RelayRun;
  readonly #naming: Naming;
  readonly #connection: Connection;
  readonly #sending: Sending;
  readonly #suspects = new Suspects();

  constructor(run: RelayRun) {
    this.#run = run;
    const { name, service, settings, logger } = run;
    const { to, mode, ordered, source, types, sendTimeoutMs: timeoutMs, once } = settings;
    this.#naming = { source: source ?? `urn:posthorn:${encodeURIComponent(service)}`, types };
    this.#connection = new Connection({ name, service, to, mode, ordered, once, timeoutMs, logger });
    const sender = () => this.#connection.sender();
    this.#sending = new Sending({ sender, closed: this.#connection.closed, timeoutMs, once });
  }

  /** Connects at the start. A broker that is away is only told: its first message opens the circuit. Errors: `ConfigurationError`, which names the relay. */
  async open(): Promise<void> {
    const { name, logger } = this.#run;
    try {
      await this.#connection.sender();
    } catch (error) {
      if (error instanceof ConfigurationError) throw named(error, "relay", name);
      const advice = neverReached(error);
      const look = advice === undefined ? "" : ` ${advice}.`;
      const message = `the broker of the relay "${name}" is away at the start, ${this.#said(error)}.${look} Messages wait, and go out when it is back.`;
      logger.warn(message, { relay: name });
    }
  }

  /** What became of each, as a carrier says it. Never rejects. */
  async carry(messages: readonly Carried[]): Promise<readonly (Error | null)[]> {
    const drafts = messages.map((one) => this.#draft(one));
    const ready = drafts.filter((one): one is Outgoing => !(one instanceof Error));
    const sent = await this.#sending.send(ready);
    let next = 0;
    return drafts.map((one) => {
      if (one instanceof Error) return one;
      const outcome = sent[next++] ?? unanswered;
      if (outcome.kind !== "acknowledged") return composed(this.#failure(outcome, one.event.id));
      this.#suspects.acknowledged(one.event.id);
      return null;
    });
  }

  /** What cannot be written as an event fails by itself, and not with the others. */
  #draft(message: Carried): Outgoing | Error {
    try {
      return outgoingOf(message, this.#naming);
    } catch (error) {
      return composed(failed(`no event can be made of it: ${reasonOf(error)}`, error));
    }
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  get #broker(): string {
    const { broker, where } = relayedTo(this.#run.settings.to);
    return `${broker} ${where}`;
  }

  /** The broker and what it says, which may say itself where it is. */
  #said(error: unknown): string {
    const { broker, where } = relayedTo(this.#run.settings.to);
    const reason = reasonOf(error);
    return `${reason.includes(where) ? broker : this.#broker}: ${reason}`;
  }

  /** Why nothing goes out: nothing is lost by either, and only what is away comes back by itself. */
  #closed(error: unknown): string {
    const toMend = error instanceof ConfigurationError;
    return `${toMend ? "nothing goes out before this is mended" : "the broker is away"}, ${this.#said(error)}`;
  }

  /** What the engine makes of it: a dead letter, another attempt, or a fleet that waits. */
  #failure(sent: Exclude<Sent, { kind: "acknowledged" }>, message: string): Error {
    if (sent.kind === "refused") return new Reject(`refused by ${this.#broker}: ${cleaned(String(sent.reason))}`);
    const { error, retryAfterMs } = sent;
    const afterMs = waitOf(retryAfterMs);
    if (sent.kind === "unavailable") {
      const { alone, unsent } = sent;
      if (alone === true) return this.#unlucky(error, message, unsent);
      // The message itself is put off as ever: the circuit holds it, and may be tried sooner than the broker has asked for.
      const { openMs: delayMs } = this.#run.settings;
      return openingFor({ openMs: afterMs, delayMs, unsent }, this.#closed(error));
    }
    const text = `not sent to ${this.#said(error)}`;
    return afterMs === undefined ? failed(text, error) : new RetryLater(afterMs, text);
  }

  /** Put off for longer than the circuit is open: another message is tried before it, and tells whether this one is the reason. */
  #unlucky(error: unknown, message: string, unsent: boolean | undefined): Error {
    const { toBlame, patience } = this.#suspects.unlucky(message);
    if (toBlame) {
      return failed(
        `not sent to ${this.#said(error)}. Others were acknowledged between its tries, so it is the message`,
        error,
      );
    }
    const { openMs } = this.#run.settings;
    const delayMs = Math.min(patience * openMs, limits.durationMs);
    return openingFor({ openMs, delayMs, unsent }, this.#closed(error));
  }
}

/** Another server does not decide about more than a day. */
function waitOf(ms: number | undefined): number | undefined {
  if (ms === undefined || !(ms > 0)) return undefined;
  return Math.min(Math.max(ms, 1), limits.retryAfterMostMs);
}

/** With the code by which errors are grouped, and without the stack and the causes of a client, which nobody has cleaned. */
function failed(text: string, error: unknown): Error {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  const failure = Object.assign(new Error(text), typeof code === "string" ? { code } : {});
  failure.name = "NotSent";
  return failure;
}
