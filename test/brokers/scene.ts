/**
 * What the rules of test/brokers/conformance.ts are played with: one broker on its service with a network in between, messages to send, and a record of
 * everything that the broker has said, in which no password may stand.
 */
import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { expect } from "vitest";
import type { Broker, BrokerFeatures, Incoming, Outgoing, Receiver, Sender, Sent } from "../../src/brokers/broker.js";
import { type CloudEvent, decode, type EnvelopeMode } from "../../src/brokers/envelope.js";
import type { Service } from "../support/services.js";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";

/** Where a broker is made. */
export interface Place {
  /** The service, or the network before it; with a user and a password where it wants them, and in some tests where it does not. */
  readonly url: string;
  /** A topic, queue, stream or path that nobody else uses: lower-case letters and digits. */
  readonly destination: string;
  /** How long the other side may say nothing before it counts as away, where the client lets one choose. */
  readonly timeoutMs: number;
}

/** A network that can go wrong: `openTcpProxy` unless the subject has its own. */
export type Network = Pick<TcpProxy, "through" | "weather" | "cut" | "refuse" | "accept" | "open" | "close">;

/** Stopped with the file of its tests where it does not say how it is removed. */
type Started = Service & { remove?(): Promise<void>; log?(): Promise<string> };

/** One broker under test. */
export interface Subject {
  readonly name: string;
  /** The table that is also in docs/reference/brokers.md. */
  readonly features: BrokerFeatures;
  /** The modes of envelopes that it can carry; both unless said otherwise. */
  readonly modes?: readonly EnvelopeMode[];
  /** Starts the other side: `() => startService("mosquitto")`. */
  readonly service: () => Promise<Started>;
  /** Makes the broker; called for each sender and receiver, many times for one place. */
  readonly make: (place: Place) => Broker;
  /** Makes the destination, straight on the service, where the broker does not do it by itself. */
  readonly prepare?: (place: Place) => Promise<void>;
  /** For a broker that only sends: reads what has arrived. */
  readonly arrivals?: (place: Place) => Promise<Receiver>;
  /** For a client that is told by the service where to connect to, and so would go around a proxy. */
  readonly network?: (service: Service) => Promise<Network>;
  /** Addresses that cannot be read; each holds `secret`. */
  readonly unreadable: readonly string[];
  /** Whether plain headers travel, and whether their values may hold line breaks. */
  readonly headers: "none" | "one line" | "any";
  /** The part of the usual number of messages that is sent where many are: for a service that is slow. All unless said otherwise. */
  readonly share?: number;
  /** A payload of so many bytes is refused, its neighbours are not. Left out where nothing below the limit of the library is too large. */
  readonly tooLargeBytes?: number;
  /** It knows of messages that nothing has left this process of, and says so. */
  readonly tellsUnsent?: true;
}

/** The password that must not be seen anywhere. */
export const secret = "hunter2-hunter2";
const patience = 60_000;

export class Scene {
  readonly broker: Broker;
  readonly place: Place;
  readonly #subject: Subject;
  readonly #record: unknown[] = [];
  readonly #open: { close(): Promise<void> }[] = [];

  constructor(subject: Subject, place: Place) {
    this.#subject = subject;
    this.place = place;
    this.broker = subject.make(place);
    this.#record.push(this.broker.where);
  }

  /** A second broker at the same destination, by another way. */
  at(url: string): Scene {
    const other = new Scene(this.#subject, { ...this.place, url });
    this.#open.push({ close: () => other.end() });
    return other;
  }

  /** What was thrown is kept for the search for passwords. */
  async trying<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      this.#record.push(error);
      throw error;
    }
  }

  async sender({ mode, signal = never() }: { mode?: EnvelopeMode; signal?: AbortSignal } = {}): Promise<Sender> {
    const opened = await this.trying(() =>
      this.broker.openSender({ ...this.#options(signal), ...(mode !== undefined && { mode }) }),
    );
    this.#open.push(opened);
    return {
      send: async (messages, until) => {
        const sent = await opened.send(messages, until);
        this.#record.push(sent);
        expect(sent).toHaveLength(messages.length);
        return sent;
      },
      close: () => opened.close(),
    };
  }

  async receiver(signal: AbortSignal = never()): Promise<Receiver> {
    const { arrivals } = this.#subject;
    const opened = await this.trying(() => arrivals?.(this.place) ?? this.broker.openReceiver(this.#options(signal)));
    this.#open.push(opened);
    return {
      receive: (options) => this.trying(() => opened.receive(options)),
      acknowledge: (messages) => this.trying(() => opened.acknowledge(messages)),
      close: () => opened.close(),
    };
  }

  #options(signal: AbortSignal) {
    return {
      name: this.place.destination,
      service: "shop",
      signal,
      onTrouble: (error: unknown) => void this.#record.push(error),
    };
  }

  /** What arrived, as it is decoded. */
  read(message: Incoming): CloudEvent {
    const decoded = decode(message, this.broker.style);
    if (!decoded?.ok) throw new Error(decoded === undefined ? "it claims to be no CloudEvent" : decoded.problem);
    return decoded.event;
  }

  idsOf(messages: readonly Incoming[]): readonly string[] {
    return messages.map((one) => this.read(one).id);
  }

  /** Closes all, and looks for passwords in all that was said. */
  async end(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((one) => one.close()));
    const said = this.#record.map((one) => inspect(one, { depth: 5, maxStringLength: 10_000, maxArrayLength: 50 }));
    const { password } = new URL(this.place.url);
    for (const hidden of [secret, password].filter((text) => text !== "")) {
      expect(said.filter((text) => text.includes(hidden))).toEqual([]);
    }
  }
}

/** The service and the network of one subject. */
export class Stage {
  readonly service: Service;
  readonly network: Network;
  readonly #started: Started;
  readonly #subject: Subject;
  readonly #scenes = new Set<Scene>();

  private constructor(subject: Subject, service: Started, network: Network) {
    this.#subject = subject;
    this.service = service;
    this.#started = service;
    this.network = network;
  }

  static async open(subject: Subject): Promise<Stage> {
    const service = await subject.service();
    return new Stage(subject, service, await (subject.network?.(service) ?? openTcpProxy(service.url)));
  }

  /** A fresh destination behind the network, and a receiver that was there first: a topic remembers nothing for those who come later. */
  async fresh(options: { timeoutMs?: number } = {}): Promise<Scene> {
    const scene = this.missing(options);
    await this.#subject.prepare?.({ ...scene.place, url: this.service.url });
    if (this.#subject.features.receives) await (await scene.receiver()).close();
    return scene;
  }

  /** A destination that nobody has made. */
  missing({ timeoutMs = 30_000 }: { timeoutMs?: number } = {}): Scene {
    const destination = `conformance${randomBytes(8).toString("hex")}`;
    const scene = new Scene(this.#subject, { url: this.network.through(this.service.url), destination, timeoutMs });
    this.#scenes.add(scene);
    return scene;
  }

  /** The end of what the service has printed. */
  async printed(): Promise<string> {
    return ((await this.#started.log?.()) ?? "").slice(-4_000);
  }

  /** After each test: a fair network again, everything closed, no password said. */
  async clear(): Promise<void> {
    this.network.weather("fair");
    await this.network.accept();
    try {
      for (const scene of this.#scenes) await scene.end();
    } finally {
      this.#scenes.clear();
    }
  }

  async close(): Promise<void> {
    await this.network.close();
    await this.#started.remove?.();
  }
}

/** A signal that does not fire. */
export function never(): AbortSignal {
  return new AbortController().signal;
}

export function eventOf(n: number, over: Partial<CloudEvent> = {}): CloudEvent {
  return {
    id: `message-${n}`,
    source: "/conformance",
    type: "conformance.counted",
    datacontenttype: "application/json",
    extensions: {},
    data: JSON.stringify({ n }),
    headers: {},
    ...over,
  };
}

/** What has broken one transport or another. Attributes have no control characters: the specification forbids them. */
export const hard: readonly (Partial<CloudEvent> & { readonly what: string })[] = [
  { what: "an empty payload", data: "{}" },
  { what: "other alphabets", subject: "Zażółć gęślą jaźń", data: JSON.stringify({ text: "日本語 🐎 \u0000 \n" }) },
  { what: "quotes and percent signs", subject: `"100 %41" 'and' \\ , ; = %`, data: JSON.stringify(`"%41%"`) },
  {
    what: "all attributes and extensions",
    subject: "orders/17",
    time: "2026-02-03T04:05:06.789Z",
    dataschema: "https://example.com/schemas/orders",
    extensions: {
      partitionkey: "order 17",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
      correlationid: "c-1",
      causationid: "c-2",
      contractversion: "3",
    },
  },
  { what: "null", data: "null" },
  { what: "long data", data: JSON.stringify({ text: "ä".repeat(50_000) }) },
];

/** `count` messages from number `from` on, with `keys` keys in turn. */
export function messages(count: number, { from = 0, keys = 1 }: { from?: number; keys?: number } = {}): Outgoing[] {
  return Array.from({ length: count }, (_, i) => {
    const key = `key-${(from + i) % keys}`;
    return { event: eventOf(from + i, { extensions: { partitionkey: key } }), key };
  });
}

export function idsOf(given: readonly Outgoing[]): readonly string[] {
  return given.map(({ event }) => event.id);
}

export function kinds(sent: readonly Sent[]): readonly Sent["kind"][] {
  return sent.map(({ kind }) => kind);
}

/** Receives and acknowledges until `enough`; what comes more than once is there more than once. */
export async function takeUntil(
  receiver: Receiver,
  enough: (taken: readonly Incoming[]) => boolean,
  { max = 500 }: { max?: number } = {},
): Promise<readonly Incoming[]> {
  const taken: Incoming[] = [];
  const deadline = performance.now() + patience;
  while (!enough(taken)) {
    if (performance.now() > deadline) throw new Error(`only ${taken.length} messages came`);
    const next = await receiver.receive({ max, waitMs: 1_000, signal: never() });
    expect(next.length).toBeLessThanOrEqual(max);
    await receiver.acknowledge(next);
    taken.push(...next);
  }
  return taken;
}

export function take(receiver: Receiver, count: number, options?: { max?: number }): Promise<readonly Incoming[]> {
  return takeUntil(receiver, (taken) => taken.length >= count, options);
}

/** Nothing more is there: one wait, which cannot prove it, and would notice what comes again at once. */
export async function expectNothing(receiver: Receiver, waitMs = 500): Promise<void> {
  expect(await receiver.receive({ max: 10, waitMs, signal: never() })).toEqual([]);
}

/** What was sent is there in its order, within what the broker keeps it. Other ids may stand between. */
export function expectOrder(ids: readonly string[], sent: readonly Outgoing[], order: BrokerFeatures["order"]): void {
  const here = new Set(idsOf(sent));
  const keyOf = new Map(sent.map(({ event, key }) => [event.id, key]));
  const within = (key: string | null) => (id: string) => order === "destination" || keyOf.get(id) === key;
  expect([...ids.filter((id) => here.has(id))].sort()).toEqual([...here].sort());
  if (order === "none") return;
  for (const key of new Set(keyOf.values())) {
    const wanted = idsOf(sent).filter(within(key));
    expect(ids.filter((id) => here.has(id)).filter(within(key))).toEqual(wanted);
    if (order === "destination") return;
  }
}
