/**
 * Publishes on one connection, and says what the stream answered to each message.
 *
 * Every message asks for its answer at a subject of its own below one inbox. The client has requests that do the same, with a timer and an error made ahead
 * for each; one watch over all of them is enough here.
 */
import type { Msg } from "@nats-io/transport-node";
import { gather, type Patience } from "../answers.js";
import type { Link } from "./link.js";
import type { Ready } from "./message.js";

export type Outcome =
  | { readonly kind: "stored"; readonly duplicate: boolean }
  /** Nobody listens on the subject: no stream, or none that leads now. */
  | { readonly kind: "unheard" }
  /** `status` as in HTTP, `code` of JetStream. */
  | { readonly kind: "refused"; readonly status: number; readonly code: number; readonly text: string }
  | { readonly kind: "forbidden"; readonly error: unknown }
  | { readonly kind: "unknown"; readonly error: unknown };

interface Waiting {
  readonly subject: string;
  readonly settle: (outcome: Outcome) => void;
}

export class Line {
  readonly link: Link;
  readonly #inbox: string;
  readonly #waiting = new Map<string, Waiting>();
  #next = 0;

  constructor(link: Link) {
    this.link = link;
    this.#inbox = link.client.createInbox();
    link.connection.subscribe(`${this.#inbox}.*`, { callback: (error, message) => this.#answer(error, message) });
  }

  get lost(): unknown {
    return this.link.lost;
  }

  /** How many wait for their answer. */
  get busy(): number {
    return this.#waiting.size;
  }

  /** All at once and in their order. Never rejects. */
  async publish(messages: readonly Ready[], patience: Omit<Patience, "silence">): Promise<readonly Outcome[]> {
    const tokens: string[] = [];
    const outcomes = await gather<Outcome>(
      messages.length,
      { ...patience, silence: (timeoutMs) => new Error(`NATS has acknowledged nothing for ${timeoutMs} ms`) },
      (settle) => {
        for (const [i, message] of messages.entries())
          tokens.push(this.#send(message, (outcome) => settle(i, outcome)));
      },
      (error) => ({ kind: "unknown", error }),
    );
    for (const token of tokens) this.#waiting.delete(token);
    return outcomes;
  }

  /** The connection is gone: nothing that waits will be answered. */
  fail(error: unknown): void {
    for (const [token, { settle }] of this.#waiting) {
      this.#waiting.delete(token);
      settle({ kind: "unknown", error });
    }
  }

  /** The server does not let this user publish to a subject; it says so once, and answers nothing. */
  forbid(subject: string, error: unknown): void {
    for (const [token, waiting] of this.#waiting) {
      if (waiting.subject !== subject) continue;
      this.#waiting.delete(token);
      waiting.settle({ kind: "forbidden", error });
    }
  }

  #send({ subject, headers, body }: Ready, settle: (outcome: Outcome) => void): string {
    this.#next += 1;
    const token = this.#next.toString(36);
    this.#waiting.set(token, { subject, settle });
    try {
      this.link.connection.publish(subject, body, { reply: `${this.#inbox}.${token}`, headers });
    } catch (error) {
      this.#waiting.delete(token);
      settle({ kind: "unknown", error });
    }
    return token;
  }

  #answer(error: Error | null, message: Msg): void {
    if (error !== null) {
      this.link.drop(error);
      return;
    }
    const token = message.subject.slice(this.#inbox.length + 1);
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return;
    this.#waiting.delete(token);
    waiting.settle(outcomeOf(message));
  }
}

function outcomeOf(message: Msg): Outcome {
  if (message.data.length === 0 && message.headers?.code === 503) return { kind: "unheard" };
  const answer = fieldsOf(message);
  const refused = typeof answer.error === "object" && answer.error !== null ? answer.error : undefined;
  if (refused !== undefined) {
    const {
      code: status = 0,
      err_code: code = 0,
      description: text = "",
    }: Readonly<Record<string, unknown>> = {
      ...refused,
    };
    return { kind: "refused", status: Number(status), code: Number(code), text: String(text) };
  }
  if (typeof answer.stream === "string" && typeof answer.seq === "number") {
    return { kind: "stored", duplicate: answer.duplicate === true };
  }
  return { kind: "unknown", error: new Error("NATS gave an answer that is no acknowledgement of a stream") };
}

function fieldsOf(message: Msg): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = message.json();
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
