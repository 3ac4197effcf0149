/**
 * The switches of the page. They make real trouble, and they do it out here: nothing in the library knows of them.
 *
 * Each is a row, so that a switch stays as it was set when the process is killed; all but the kill itself, which strikes once.
 */
import { once } from "node:events";
import { type Broker, RetryLater, type Sender, seconds } from "posthorn";
import { post, read } from "../post.js";

export const troubleNames = [
  "mail-down",
  "pricing-down",
  "payment-slow",
  "payment-answers-lost",
  "sold-out",
  "broker-down",
  "delivered-twice",
  "kill",
] as const;

/** The article that is sold out by the switch. */
export const soldOutSku = "HORN-1";

export type TroubleName = (typeof troubleNames)[number];

export class Troubles {
  readonly #on = new Set<TroubleName>();

  static async load(): Promise<Troubles> {
    const troubles = new Troubles();
    const rows = await read<{ name: TroubleName }>("select name from shop.trouble where switched_on");
    for (const { name } of rows) troubles.#on.add(name);
    troubles.#tellBroker();
    return troubles;
  }

  is(name: TroubleName): boolean {
    return this.#on.has(name);
  }

  async set(name: TroubleName, on: boolean): Promise<void> {
    if (name !== "kill") {
      await post.transaction(({ tx }) =>
        tx.query(
          `insert into shop.trouble (name, switched_on) values ($1, $2)
           on conflict (name) do update set switched_on = excluded.switched_on`,
          [name, on],
        ),
      );
    }
    if (on) this.#on.add(name);
    else this.#on.delete(name);
    if (name === "broker-down") this.#tellBroker();
  }

  /** The broker is a process of its own; the supervisor passes it on. */
  #tellBroker(): void {
    process.send?.({ broker: this.is("broker-down") ? "down" : "up" });
  }

  toJSON(): Readonly<Record<string, boolean>> {
    return Object.fromEntries(troubleNames.map((name) => [name, this.is(name)]));
  }

  /** A pricing that is down does not say so: it is silent, until the deadline ends the question. */
  pricing<Request, Context extends { readonly signal: AbortSignal }, Response>(
    answer: (request: Request, context: Context) => Promise<Response>,
  ) {
    return async (request: Request, context: Context): Promise<Response> => {
      if (this.is("pricing-down")) {
        if (!context.signal.aborted) await once(context.signal, "abort");
        throw context.signal.reason;
      }
      return answer(request, context);
    };
  }

  /**
   * "Every message delivered twice": the handler does its work, and then its success is lost, as when the connection breaks at the
   * wrong moment. The engine knows of no success and delivers the message again, for real: the second run meets an effect that is
   * there already. In handler mode the other side knows the idempotency key; in transaction mode the first run was rolled back.
   */
  delivered<Payload, Context extends { readonly attempt: number }, Result>(
    handler: (payload: Payload, context: Context) => Result | Promise<Result>,
  ) {
    return async (payload: Payload, context: Context): Promise<Result> => {
      const result = await handler(payload, context);
      if (this.is("delivered-twice") && context.attempt === 1) {
        throw new Error("delivered twice: the work was done, and its success was lost");
      }
      return result;
    };
  }

  /** The same for what goes out by a relay: the broker has it, and its acknowledgement is lost. The other side knows the repetition by the id. */
  acknowledged(broker: Broker): Broker {
    return {
      ...broker,
      openSender: async (options) => this.#withLostAnswers(await broker.openSender(options)),
      openReceiver: (options) => broker.openReceiver(options),
    };
  }

  #withLostAnswers(sender: Sender): Sender {
    const lost = new Set<string>();
    return {
      send: async (messages, signal) => {
        const sent = await sender.send(messages, signal);
        if (!this.is("delivered-twice")) {
          lost.clear();
          return sent;
        }
        return sent.map((one, i) => {
          const id = messages[i]?.event.id ?? "";
          if (one.kind !== "acknowledged" || lost.delete(id)) return one;
          lost.add(id);
          return { kind: "failed", error: new Error("delivered twice: the broker has it, and its answer was lost") };
        });
      },
      close: () => sender.close(),
    };
  }

  /** No piece of this article is left until the switch is turned back. That is nobody's failure: no attempt is burnt, however long it takes. */
  soldOut<Payload extends { readonly sku: string }, Context>(
    handler: (payload: Payload, context: Context) => Promise<void>,
  ) {
    return async (payload: Payload, context: Context): Promise<void> => {
      if (this.is("sold-out") && payload.sku === soldOutSku) {
        throw new RetryLater(seconds(1), "the shelf is empty until new post horns are delivered");
      }
      await handler(payload, context);
    };
  }

  /** The worst moment for a kill: the money is taken, and nothing here knows it yet. */
  killedAfter<Payload, Context>(handler: (payload: Payload, context: Context) => Promise<void>) {
    return async (payload: Payload, context: Context): Promise<void> => {
      await handler(payload, context);
      if (this.is("kill")) process.kill(process.pid, "SIGKILL");
    };
  }
}
