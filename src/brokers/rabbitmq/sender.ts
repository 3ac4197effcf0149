/**
 * The way out to RabbitMQ: publisher confirms on one channel, every message mandatory and persistent.
 *
 * What RabbitMQ does with a message that it will not have depends on the reason. Where no queue is bound, it returns the message and confirms it. Where a
 * queue is full, it rejects the message. Where the message is too large or its exchange is gone, it closes the channel, says not which message it was, and
 * ignores what came after it; then what has no answer is sent again, one after the other, until the one is found. Where nothing may be there twice it is
 * not: RabbitMQ may have taken what came before the one.
 */

import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import { Reopening } from "../reopening.js";
import { untilAborted } from "../until-aborted.js";
import { checkRoute } from "./destination.js";
import { codeOf, openLink } from "./link.js";
import { type Draft, draft, type Ready } from "./message.js";
import { type Route, routeOf, type Settings } from "./options.js";
import { type Line, type Outcome, prepareLine, publish } from "./publish.js";
import { said } from "./way.js";

export async function openRabbitMqSender(settings: Settings, options: OpenOptions): Promise<Sender> {
  const sender = new RabbitMqSender(settings, options);
  await sender.open(options.signal);
  return sender;
}

class RabbitMqSender implements Sender {
  readonly #settings: Settings;
  readonly #options: OpenOptions;
  readonly #route: Route;
  readonly #lines = new Reopening<Line>((signal) => this.#connect(signal));
  /** Ends when nobody looks for a message that closed the channel: what is sent later waits, and stays later. */
  #search: Promise<unknown> = Promise.resolve();
  #calls = 0;
  /** How often something was published. */
  #published = 0;

  constructor(settings: Settings, options: OpenOptions) {
    this.#settings = settings;
    this.#options = options;
    this.#route = routeOf(settings);
  }

  async open(signal: AbortSignal): Promise<void> {
    await this.#lines.first(signal);
  }

  async send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    const drafts = messages.map((message) => draft(message, this.#options.mode ?? "binary", this.#route));
    const answers = new Map<Draft, Sent>();
    let error: unknown;
    let unsent = true;
    this.#calls += 1;
    try {
      signal.throwIfAborted();
      const line = await this.#ready(signal);
      unsent = false;
      const ready = drafts.filter(isReady);
      const published = ++this.#published;
      const isFirst = this.#calls === 1;
      const left = await this.#all(line, ready, answers, signal);
      if (this.#options.once === true) {
        const wasAlone = isFirst && published === this.#published && ready.length === 1;
        for (const one of left) answers.set(one, wasAlone ? this.#verdict(line.fault) : this.#suspicion(line.fault));
      } else if (left.length > 0) await this.#searchFor(left, answers, signal);
    } catch (reason) {
      error = said(reason, this.#settings);
    } finally {
      this.#calls -= 1;
    }
    return drafts.map((one) => {
      if (one.refused !== undefined) return { kind: "refused", reason: one.refused };
      return answers.get(one) ?? { kind: "unavailable", error, unsent };
    });
  }

  async close(): Promise<void> {
    const line = await this.#lines.end();
    await line?.close();
  }

  /** A line to send on, with nobody before us. */
  async #ready(signal: AbortSignal): Promise<Line> {
    for (;;) {
      const search = this.#search;
      await untilAborted(search, signal);
      const line = await this.#current(signal);
      if (search === this.#search && line.lost === undefined) return line;
    }
  }

  async #connect(signal: AbortSignal): Promise<Line> {
    let returned = new Map<string, string>();
    const onTrouble = (error: unknown) => {
      if (this.#calls === 0) this.#options.onTrouble(error);
    };
    const link = await openLink(this.#settings, { name: this.#options.name, signal, onTrouble }, async (channel) => {
      await checkRoute(channel, this.#route, hostAndPort(this.#settings.address));
      returned = await prepareLine(channel);
    });
    return Object.assign(link, { returned });
  }

  /** All at once. Resolves with those that have no answer because of a message that closed the channel. */
  async #all(
    line: Line,
    drafts: readonly Ready[],
    answers: Map<Draft, Sent>,
    signal: AbortSignal,
  ): Promise<readonly Ready[]> {
    const outcomes = await publish(line, drafts, { signal, timeoutMs: this.#settings.timeoutMs });
    const left: Ready[] = [];
    for (const [i, one] of drafts.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined || outcome.kind === "fault") left.push(one);
      else answers.set(one, this.#answer(outcome, line));
    }
    // What may still lie in the client or on the way must not arrive after what is sent again.
    if (outcomes.some(({ kind }) => kind === "unknown" || kind === "fault")) line.drop(line.fault ?? signal.reason);
    return left;
  }

  async #searchFor(left: readonly Ready[], answers: Map<Draft, Sent>, signal: AbortSignal): Promise<void> {
    const search = this.#search.then(() => this.#find(left, answers, signal));
    this.#search = search.catch(() => undefined);
    await search;
  }

  /** One after the other until the one is found, then all at once again. Each round answers one at least. */
  async #find(left: readonly Ready[], answers: Map<Draft, Sent>, signal: AbortSignal): Promise<void> {
    let rest = left;
    while (rest.length > 0) {
      const [one, ...others] = rest;
      if (one === undefined) return;
      const line = await this.#current(signal);
      const [stuck] = await this.#all(line, [one], answers, signal);
      if (stuck !== undefined) answers.set(one, this.#verdict(line.fault));
      const answer = answers.get(one);
      if (answer?.kind === "unavailable") throw answer.error;
      rest = stuck === undefined ? others : await this.#all(await this.#current(signal), others, answers, signal);
    }
  }

  async #current(signal: AbortSignal): Promise<Line> {
    const line = await untilAborted(this.#lines.current(), signal);
    if (line.blocked !== undefined) throw blocked(line.blocked);
    return line;
  }

  #answer(outcome: Outcome, line: Line): Sent {
    switch (outcome.kind) {
      case "confirmed":
        return { kind: "acknowledged" };
      case "returned":
        return { kind: "refused", reason: this.#settings.secrets.hide(outcome.why) };
      case "rejected":
        return { kind: "unavailable", error: rejected() };
      default: {
        const error = line.blocked === undefined ? outcome.error : blocked(line.blocked);
        return { kind: "unavailable", error: said(error, this.#settings) };
      }
    }
  }

  /** About the one message that closed the channel. What an operator mends for all of them is no fault of the message. */
  #verdict(fault: unknown): Sent {
    const { exchange, routingKey } = this.#route;
    const error = withoutSecrets(fault, this.#settings.secrets);
    const code = codeOf(error);
    if (code === "NOT_FOUND" && typeof exchange === "string") return { kind: "unavailable", error };
    if (code === "ACCESS_REFUSED") {
      const fixed = typeof exchange === "string" && typeof routingKey === "string";
      return fixed ? { kind: "unavailable", error: said(fault, this.#settings) } : { kind: "failed", error };
    }
    return { kind: "refused", reason: error instanceof Error ? error.message : String(error) };
  }

  /** About each that may be the one that closed the channel, or may have been taken before it. */
  #suspicion(fault: unknown): Sent {
    const verdict = this.#verdict(fault);
    return verdict.kind === "refused" ? { kind: "failed", error: unclear(verdict.reason) } : verdict;
  }
}

/** About one of those that were on their way when a message closed the channel. */
function unclear(reason: string): Error {
  return new Error(
    `RabbitMQ closed the channel over one of the messages that were on their way, and does not say which; it may have this one. It said: ${reason}`,
  );
}

function isReady(one: Draft): one is Ready {
  return one.refused === undefined;
}

function blocked(reason: string): Error {
  return new Error(`RabbitMQ takes no messages for now, it is ${reason}`);
}

/** A queue with a length limit and `overflow: reject-publish`, or a queue whose members are away. Both end without anybody touching the message. */
function rejected(): Error {
  return new Error("RabbitMQ rejected the message: a queue that it goes to is full, or cannot store it now");
}
