/**
 * The way out: one line of messages, published in its order with a limited number on their way. When the connection is lost, everything that has no
 * acknowledgement is answered as "unavailable", and the next send opens another connection; nothing is published twice from here.
 */
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import type { EnvelopeMode } from "../envelope.js";
import { Link } from "./link.js";
import type { Settings } from "./options.js";
import { type Publication, publicationOf } from "./packet.js";
import { sentOf } from "./reasons.js";
import { Suspects } from "./suspects.js";

/** What is written to a slow connection waits in memory. */
const bytesInFlightMost = 8_388_608;

export async function openMqttSender(settings: Settings, clientId: string, open: OpenOptions): Promise<Sender> {
  const connect = (signal: AbortSignal) => Link.open(settings, { clientId, clean: true, signal });
  const mode = settings.version === 4 ? "structured" : (open.mode ?? "binary");
  return new MqttSender({ settings, mode, connect, onTrouble: open.onTrouble }, await connect(open.signal));
}

interface Parts {
  readonly settings: Settings;
  readonly mode: EnvelopeMode;
  readonly connect: (signal: AbortSignal) => Promise<Link>;
  readonly onTrouble: (error: unknown) => void;
}

/** One message of one call. */
class Entry {
  /** The same when it is sent again. */
  readonly name: string;
  readonly publication: Publication;
  readonly #answer: (sent: Sent) => void;
  #answered = false;

  constructor(name: string, publication: Publication, answer: (sent: Sent) => void) {
    this.name = name;
    this.publication = publication;
    this.#answer = answer;
  }

  /** Its call was given up. */
  get answered(): boolean {
    return this.#answered;
  }

  answer(sent: Sent): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#answer(sent);
  }
}

class MqttSender implements Sender {
  readonly #parts: Parts;
  /** Not published yet, in the order of the calls. */
  #line: Entry[] = [];
  readonly #inFlight = new Set<Entry>();
  readonly #suspects = new Suspects();
  #bytes = 0;
  #link: Link | undefined;
  #opening: AbortController | undefined;
  #closed = false;
  #silence: NodeJS.Timeout | undefined;

  constructor(parts: Parts, first: Link) {
    this.#parts = parts;
    this.#use(first);
  }

  async send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    if (this.#closed) return messages.map(() => unsent(new Error("The sender is closed.")));
    if (signal.aborted) return messages.map(() => unsent(givenUp()));
    const entries: Entry[] = [];
    const answers = messages.map((message) => this.#prepared(message, entries));
    const giveUp = () => {
      for (const entry of entries) entry.answer(this.#gone(entry, givenUp()));
    };
    signal.addEventListener("abort", giveUp);
    for (const entry of entries) this.#line.push(entry);
    this.#pump();
    const sent = await Promise.all(answers);
    signal.removeEventListener("abort", giveUp);
    return sent;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#opening?.abort();
    const link = this.#link;
    this.#link = undefined;
    this.#answerAll(new Error("The sender was closed."));
    await link?.close();
  }

  #prepared({ event }: Outgoing, entries: Entry[]): Promise<Sent> {
    const { settings, mode } = this.#parts;
    const publication = publicationOf(event, mode, settings);
    if (typeof publication === "string") return Promise.resolve({ kind: "refused", reason: publication });
    return new Promise((resolve) => entries.push(new Entry(`${event.source} ${event.id}`, publication, resolve)));
  }

  #pump(): void {
    const link = this.#link;
    if (this.#line.length === 0) return;
    if (link === undefined) this.#reopen();
    else this.#fill(link);
  }

  /** Publishes until as much is on its way as may be. */
  #fill(link: Link): void {
    const { properties } = link.connack;
    const { maxInFlight, maxPacketBytes = Number.POSITIVE_INFINITY } = this.#parts.settings;
    const mostInFlight = Math.min(maxInFlight, properties?.receiveMaximum ?? maxInFlight);
    const mostBytes = Math.min(maxPacketBytes, properties?.maximumPacketSize ?? maxPacketBytes);
    let next = 0;
    for (; next < this.#line.length; next += 1) {
      const isFull = this.#inFlight.size >= mostInFlight || this.#bytes >= bytesInFlightMost;
      if (isFull) break;
      const entry = this.#line[next];
      if (entry === undefined || entry.answered) continue;
      if (this.#inFlight.size > 0 && this.#suspects.goesAlone(entry.name)) break;
      const { bytes } = entry.publication;
      if (bytes <= mostBytes) this.#publish(link, entry);
      else entry.answer({ kind: "refused", reason: `its packet has ${bytes} bytes, ${mostBytes} are allowed` });
    }
    this.#line.splice(0, next);
  }

  #publish(link: Link, entry: Entry): void {
    const { topic, body, options, bytes } = entry.publication;
    this.#inFlight.add(entry);
    this.#bytes += bytes;
    this.#suspects.sent(entry.name);
    const { timeoutMs } = this.#parts.settings;
    this.#silence ??= setTimeout(() => link.fail(`nothing was heard for ${timeoutMs} ms`), timeoutMs);
    link.client.publish(topic, body, options, (error) => {
      // When the link is lost, everything is answered at once, with the reason.
      if (this.#link !== link || link.error !== undefined || !this.#inFlight.delete(entry)) return;
      this.#bytes -= bytes;
      this.#heard();
      this.#suspects.answered(entry.name);
      entry.answer(error ? this.#sentOf(error) : { kind: "acknowledged" });
      this.#pump();
    });
  }

  #sentOf(error: Error): Sent {
    const oneTopic = typeof this.#parts.settings.topic === "string";
    const code = "code" in error ? error.code : undefined;
    return typeof code === "number" ? sentOf(code, { oneTopic }) : unavailable(error);
  }

  #heard(): void {
    if (this.#inFlight.size > 0) {
      this.#silence?.refresh();
    } else {
      clearTimeout(this.#silence);
      this.#silence = undefined;
    }
  }

  #reopen(): void {
    if (this.#opening !== undefined) return;
    const opening = new AbortController();
    this.#opening = opening;
    const opened = (link: Link) => {
      this.#opening = undefined;
      if (this.#closed) return void link.close();
      this.#use(link);
      this.#pump();
    };
    const failed = (error: unknown) => {
      this.#opening = undefined;
      this.#answerAll(error);
    };
    this.#parts.connect(opening.signal).then(opened, failed);
  }

  #use(link: Link): void {
    this.#link = link;
    void link.lost.then((error) => {
      if (this.#link !== link) return;
      this.#link = undefined;
      this.#lost(error);
    });
  }

  #lost(error: Error): void {
    if (this.#inFlight.size === 0) this.#parts.onTrouble(error);
    const guilty = this.#suspects.lost([...this.#inFlight].map(({ name }) => name));
    for (const entry of this.#inFlight) if (entry.name === guilty) entry.answer({ kind: "failed", error });
    this.#answerAll(error);
  }

  #answerAll(error: unknown): void {
    const answers = [...this.#inFlight, ...this.#line].map((entry) => ({ entry, sent: this.#gone(entry, error) }));
    this.#inFlight.clear();
    this.#line = [];
    this.#bytes = 0;
    this.#heard();
    for (const { entry, sent } of answers) entry.answer(sent);
  }

  #gone(entry: Entry, error: unknown): Sent {
    return this.#inFlight.has(entry) ? unavailable(error) : unsent(error);
  }
}

function unavailable(error: unknown): Sent {
  return { kind: "unavailable", error };
}

/** It waited in its line, and was never published. */
function unsent(error: unknown): Sent {
  return { kind: "unavailable", error, unsent: true };
}

function givenUp(): Error {
  return new Error("Sending was given up before the broker acknowledged the message.");
}
