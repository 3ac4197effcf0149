/** The way out to NATS JetStream: every message with its id for the stream's window of duplicates, and the stream's own acknowledgement for each. */
import { ConfigurationError } from "../../core/errors.js";
import { withoutSecrets } from "../../core/secrets.js";
import { hostAndPort } from "../address.js";
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import { Reopening } from "../reopening.js";
import { untilAborted } from "../until-aborted.js";
import { within } from "../within.js";
import { type Link, openLink, streamOf } from "./link.js";
import { type Draft, type DraftOptions, draft, type Ready } from "./message.js";
import { refuse, type Settings, type Subject } from "./options.js";
import { Line, type Outcome } from "./publish.js";
import { matches, subjectProblem } from "./subjects.js";
import { said } from "./way.js";

export async function openNatsSender(settings: Settings, options: OpenOptions): Promise<Sender> {
  const { subject } = settings;
  if (subject === undefined)
    return refuse("nats.subject", "is missing: a relay publishes to a subject. Name one of the stream");
  const problem = typeof subject === "string" ? subjectProblem(subject, { wildcards: false }) : undefined;
  if (problem !== undefined) return refuse("nats.subject", `cannot be published to: ${problem}`);
  const sender = new NatsSender(settings, subject, options);
  await sender.open(options.signal);
  return sender;
}

interface Way {
  readonly line: Line;
  drafts: DraftOptions;
  readonly lost: unknown;
}

class NatsSender implements Sender {
  readonly #settings: Settings;
  readonly #subject: Subject;
  readonly #options: OpenOptions;
  readonly #ways = new Reopening<Way>((signal) => this.#connect(signal));

  constructor(settings: Settings, subject: Subject, options: OpenOptions) {
    this.#settings = settings;
    this.#subject = subject;
    this.#options = options;
  }

  async open(signal: AbortSignal): Promise<void> {
    await this.#ways.first(signal);
  }

  async send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    let way: Way;
    try {
      signal.throwIfAborted();
      way = await untilAborted(this.#ways.current(), signal);
    } catch (reason) {
      const error = withoutSecrets(reason, this.#settings.secrets);
      return messages.map(() => ({ kind: "unavailable", error, unsent: true }));
    }
    const { line } = way;
    const drafts = messages.map((message) => draft(line.link.client, message, way.drafts));
    const ready = drafts.filter(isReady);
    const outcomes = await line.publish(ready, { signal, timeoutMs: this.#settings.timeoutMs });
    // What may still lie in the client or on the way must not arrive after what is sent again.
    const unknown = outcomes.find(({ kind }) => kind === "unknown");
    if (unknown?.kind === "unknown") line.link.drop(unknown.error);
    const answers = new Map<Draft, Outcome | undefined>(ready.map((one, i) => [one, outcomes[i]]));
    const untaken = outcomes.some((one) => isUntaken(one)) ? await this.#untaken(way, signal) : undefined;
    return drafts.map((one) => {
      if (one.refused !== undefined) return { kind: "refused", reason: one.refused };
      const outcome = answers.get(one);
      return untaken !== undefined && isUntaken(outcome) ? this.#unavailable(untaken) : this.#sent(outcome);
    });
  }

  async close(): Promise<void> {
    const way = await this.#ways.end();
    way?.line.fail(new Error("the sender was closed"));
    await way?.line.link.close();
  }

  async #connect(signal: AbortSignal): Promise<Way> {
    const limit = within(this.#settings.timeoutMs, signal);
    let line: Line | undefined;
    const link = await openLink(this.#settings, {
      name: this.#options.name,
      signal: limit,
      onLost: (error) => {
        if (line === undefined || line.busy === 0) this.#options.onTrouble(error);
        line?.fail(error);
      },
      onRefused: (error) => {
        const subject = subjectOf(error);
        if (subject === undefined) this.#options.onTrouble(withoutSecrets(error, this.#settings.secrets));
        else line?.forbid(subject, error);
      },
    });
    try {
      const subjects = await this.#subjectsOf(link, limit);
      line = new Line(link);
      const { stream } = this.#settings;
      const mostBytes = link.connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
      const mode = this.#options.mode ?? "binary";
      const drafts = { mode, subject: this.#subject, stream, subjects, mostBytes };
      return {
        line,
        drafts,
        get lost() {
          return link.lost;
        },
      };
    } catch (error) {
      await link.close();
      throw said(error, this.#settings);
    }
  }

  /** What the stream takes. Errors: `ConfigurationError` where there is no such stream, or it does not take the subject. */
  async #subjectsOf(link: Link, signal: AbortSignal): Promise<readonly string[]> {
    const { config } = await untilAborted(streamOf(link, this.#settings), signal);
    const subjects = config.subjects ?? [];
    this.#checkSubject(subjects);
    return subjects;
  }

  /** Why the stream did not take what was published: asked for once a batch. Undefined: it is there, and the server has said why. */
  async #untaken(way: Way, signal: AbortSignal): Promise<unknown> {
    try {
      way.drafts = { ...way.drafts, subjects: await this.#subjectsOf(way.line.link, signal) };
      return undefined;
    } catch (error) {
      return error instanceof ConfigurationError ? error : undefined;
    }
  }

  #checkSubject(subjects: readonly string[]): void {
    const { stream, address } = this.#settings;
    const subject = this.#subject;
    if (typeof subject !== "string" || subjects.some((pattern) => matches(pattern, subject))) return;
    const where = hostAndPort(address);
    const message = `The stream ${stream} of NATS at ${where} does not take the subject ${subject}; it takes ${subjects.join(", ") || "none"}.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { stream, subject, where });
  }

  #unavailable(error: unknown): Sent {
    return { kind: "unavailable", error: said(error, this.#settings) };
  }

  #sent(outcome: Outcome | undefined): Sent {
    switch (outcome?.kind) {
      case "stored":
        return outcome.duplicate ? { kind: "acknowledged", duplicate: true } : { kind: "acknowledged" };
      case "refused":
        return this.#refused(outcome);
      case "forbidden":
        // Whoever may publish to no subject of its own is set up wrongly, which is no message's fault.
        return typeof this.#subject === "string"
          ? this.#unavailable(outcome.error)
          : { kind: "failed", error: withoutSecrets(outcome.error, this.#settings.secrets) };
      case "unheard":
        return this.#unavailable(
          new Error(`the stream ${this.#settings.stream} takes nothing now: no server leads it`),
        );
      default:
        return this.#unavailable(outcome?.error ?? new Error("NATS gave no answer"));
    }
  }

  /** A full stream is no message's fault; neither is a subject that another stream has taken over. Both are mended where the server is run. */
  #refused({ status, code, text }: Extract<Outcome, { readonly kind: "refused" }>): Sent {
    const words = this.#settings.secrets.hide(`JetStream did not take it: ${text} (${code})`);
    const isOther = code === otherStream && typeof this.#subject === "string";
    return status >= 500 || isOther
      ? { kind: "unavailable", error: new Error(words) }
      : { kind: "refused", reason: words };
  }
}

/** "expected stream does not match". */
const otherStream = 10060;

/** Nobody has heard it, or another stream has. */
function isUntaken(outcome: Outcome | undefined): boolean {
  return outcome?.kind === "unheard" || (outcome?.kind === "refused" && outcome.code === otherStream);
}

function isReady(one: Draft): one is Ready {
  return one.refused === undefined;
}

/** Of an error that says that a subject may not be published to. */
function subjectOf(error: unknown): string | undefined {
  const isOne = error instanceof Error && "operation" in error && error.operation === "publish" && "subject" in error;
  return isOne ? String(error.subject) : undefined;
}
