/** Queues and subscriptions as declared in this process: a name, a policy, and handlers. */
import type { AnyContract, OutputOf, ResultInputOf } from "../contracts/contract.js";
import { requireKind } from "../contracts/require-kind.js";
import { ConfigurationError, WrongKindError } from "../core/errors.js";
import { show } from "../core/show.js";
import type { CheckedPolicy, Idempotency } from "../policies/policy.js";
import type { Context, RunContext } from "../worker/context.js";
import type { Declared } from "../worker/incarnation.js";
import type { Handled } from "../worker/run.js";

type Returns<C extends AnyContract> = [ResultInputOf<C>] extends [never]
  ? void | Promise<void>
  : ResultInputOf<C> | Promise<ResultInputOf<C>>;

/** A queue of commands. Name and policy are fixed; handlers are added until the start. */
export interface Queue<Q extends string, I extends Idempotency, Tx> {
  readonly name: Q;
  readonly policy: CheckedPolicy;
  /**
   * Sets the handler of a command of this queue. One command has one handler.
   *
   * Errors: `WrongKindError` for what is no command of this queue; `ConfigurationError` for a second handler, or after the start.
   */
  handle<C extends AnyContract<"command", Q>>(
    command: C,
    handler: (payload: OutputOf<C>, context: Context<I, Tx>) => Returns<C>,
  ): this;
}

/** A subscription to a topic, with its own position and policy. */
export interface Subscription<T extends string, I extends Idempotency, Tx> {
  readonly name: string;
  readonly topic: T;
  readonly policy: CheckedPolicy;
  /**
   * Sets the handler of an event of this topic. Events without one are skipped.
   *
   * Errors: as `Queue.handle`.
   */
  on<C extends AnyContract<"event", T>>(
    event: C,
    handler: (payload: OutputOf<C>, context: Context<I, Tx>) => void | Promise<void>,
  ): this;
}

/** Both, at run time: the types above are what users see of it. */
export class Declaration implements Declared {
  readonly kind: "command" | "event";
  readonly name: string;
  readonly channel: string;
  readonly policy: CheckedPolicy;
  readonly handlers = new Map<AnyContract, Handled>();
  readonly #started: () => boolean;

  constructor(kind: "command" | "event", name: string, channel: string, policy: CheckedPolicy, started: () => boolean) {
    this.kind = kind;
    this.name = name;
    this.channel = channel;
    this.policy = policy;
    this.#started = started;
  }

  get topic(): string {
    return this.channel;
  }

  handle(command: unknown, handler: unknown): this {
    return this.#add(requireKind(command, "command", "handle"), "handle", handler);
  }

  on(event: unknown, handler: unknown): this {
    return this.#add(requireKind(event, "event", "on"), "on", handler);
  }

  #add(contract: AnyContract, verb: "handle" | "on", handler: unknown): this {
    if (this.kind !== contract.kind) {
      const is = this.kind === "command" ? "a queue: use handle()" : "a subscription: use on()";
      throw new WrongKindError("PH_WRONG_KIND", `"${this.name}" is ${is}.`, { name: this.name });
    }
    if (contract.channel !== this.channel) {
      const what = this.kind === "command" ? "queue" : "topic";
      throw new WrongKindError(
        "PH_WRONG_CHANNEL",
        `${contract.name} is carried by the ${what} "${contract.channel}", not by "${this.channel}". Give its handler to that ${what}.`,
        { contract: contract.name, channel: contract.channel, given: this.channel },
      );
    }
    if (this.policy.ordering !== "none" && !contract.keyed) {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `"${this.name}" keeps order per key, and ${contract.name} has no key. Give the contract one, or say ordering: "none".`,
        { name: this.name, contract: contract.name },
      );
    }
    if (typeof handler !== "function") {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `${verb}(${contract.name}, …) takes a function as its second argument, got ${show(handler)}.`,
      );
    }
    if ([...this.handlers.keys()].some(({ name, version }) => name === contract.name && version === contract.version)) {
      throw new ConfigurationError(
        "PH_DECLARED_TWICE",
        `"${this.name}" has a handler for ${contract.name} already. Remove one.`,
        {
          contract: contract.name,
        },
      );
    }
    if (this.#started()) {
      throw new ConfigurationError(
        "PH_DECLARED_LATE",
        `The handler of ${contract.name} was added after start(). Import the file that adds it before.`,
        { contract: contract.name },
      );
    }
    this.handlers.set(contract, {
      contract,
      handler: (payload: unknown, context: RunContext) => handler(payload, context),
    });
    return this;
  }
}
