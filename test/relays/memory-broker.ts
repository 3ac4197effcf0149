/** A broker in this process: for tests that play with it, and as the end of a relay that costs next to nothing. */
import type {
  Broker,
  BrokerFeatures,
  OpenOptions,
  Outgoing,
  Receiver,
  Sender,
  Sent,
} from "../../src/brokers/broker.js";

export const memoryFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: false,
  order: "destination",
  deduplicates: false,
  checksDestination: true,
  stablePosition: false,
  mode: "binary",
};

const acknowledged: Sent = { kind: "acknowledged" };
const away = (): Sent => ({ kind: "unavailable", error: new Error("connect ECONNREFUSED 127.0.0.1:1") });

export class MemoryBroker implements Broker {
  readonly kind = "memory";
  readonly where: string;
  readonly features: BrokerFeatures;
  readonly style = { prefix: "ce-", percent: false };
  atOnce?: number;
  /** What it has acknowledged, in its order, with repetitions. */
  readonly received: Outgoing[] = [];
  /** How many messages each call of `send` brought. */
  readonly calls: number[] = [];
  readonly opened: OpenOptions[] = [];
  closed = 0;
  /** up: it acknowledges; away: nothing can be opened or sent; silent: it never answers, not even a signal. */
  state: "up" | "away" | "silent" = "up";
  /** What opening throws. */
  openError: unknown;
  /** The outcome of a message that is not simply acknowledged. */
  judge: (message: Outgoing) => Sent | undefined = () => undefined;
  /** In place of the whole answer. */
  answer: ((messages: readonly Outgoing[]) => unknown) | undefined;
  /** Waited for before an answer. */
  delay: (() => Promise<void>) | undefined;

  constructor(features: Partial<BrokerFeatures> = {}, where = "memory/orders") {
    this.features = { ...memoryFeatures, ...features };
    this.where = where;
  }

  async openSender(options: OpenOptions): Promise<Sender> {
    this.opened.push(options);
    if (this.openError !== undefined) throw this.openError;
    if (this.state === "away") throw new Error("connect ECONNREFUSED 127.0.0.1:1");
    if (this.state === "silent") await new Promise(() => undefined);
    return {
      send: (messages) => this.#send(messages),
      close: async () => {
        this.closed += 1;
      },
    };
  }

  async openReceiver(): Promise<Receiver> {
    throw new Error("nothing comes from here");
  }

  async #send(messages: readonly Outgoing[]): Promise<readonly Sent[]> {
    this.calls.push(messages.length);
    if (this.answer !== undefined) return this.answer(messages) as readonly Sent[];
    if (this.delay !== undefined) await this.delay();
    if (this.state === "silent") return new Promise(() => undefined);
    if (this.state === "away") return messages.map(away);
    return messages.map((message) => {
      const sent = this.judge(message) ?? acknowledged;
      if (sent.kind === "acknowledged") this.received.push(message);
      return sent;
    });
  }
}
