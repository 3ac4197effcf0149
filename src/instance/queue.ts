/** Queues and subscriptions as declared in this process: a name, a policy, and handlers. */
import { type AnyContract, describe, type OutputOf, type ResultInputOf } from "../contracts/contract.js";
import { requireKind } from "../contracts/require-kind.js";
import { readableVersions } from "../contracts/upcast.js";
import { ConfigurationError, WrongKindError } from "../core/errors.js";
import { checkOptions } from "../core/options.js";
import { show } from "../core/show.js";
import { type BatchOptions, batchFields } from "../policies/batch.js";
import { limitsKeys } from "../policies/flow.js";
import type { CheckedPolicy, Idempotency, StartFrom } from "../policies/policy.js";
import type { BatchContext, Batched, Many } from "../worker/batch-context.js";
import type { Context, RunContext } from "../worker/context.js";
import type { Declared } from "../worker/registration.js";
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
  /**
   * Sets a handler that takes many messages of a command at once: as many as are there, up to `size`, none of which waits for others longer than
   * `maxWaitMs`. Each message has its own outcome: `message.fail(error)`; a handler that throws fails all of them.
   *
   * Transaction: in transaction mode one for the whole batch; a failed batch is rolled back and runs again in smaller ones.
   * Delivery: a message that has failed, or was under a worker that died, runs alone, as a batch of one.
   * Concurrency: a batch takes one slot of the policy's concurrency.
   * Errors: as `handle`; also for a queue that keeps order per key, and a command with a result.
   */
  handleMany<C extends AnyContract<"command", Q>>(
    command: C & WithoutResult<C>,
    options: BatchOptions,
    handler: (messages: readonly Batched<OutputOf<C>>[], context: BatchContext<I, Tx>) => void | Promise<void>,
  ): this;
}

/** A result belongs to one message, so a handler of many cannot return it. */
type WithoutResult<C extends AnyContract> = [ResultInputOf<C>] extends [never]
  ? unknown
  : "a command with a result cannot be handled by handleMany()";

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
  /**
   * Sets a handler that takes many messages of an event at once.
   *
   * Everything else: as `Queue.handleMany`.
   */
  onMany<C extends AnyContract<"event", T>>(
    event: C,
    options: BatchOptions,
    handler: (messages: readonly Batched<OutputOf<C>>[], context: BatchContext<I, Tx>) => void | Promise<void>,
  ): this;
}

type Working = "handle" | "handleMany" | "on" | "onMany";
const one = { command: "handle", event: "on" } as const;
const many = { command: "handleMany", event: "onMany" } as const;
/** The verb of each kind that does the same. */
const workings = { handle: one, on: one, handleMany: many, onMany: many } as const;

/** Both, at run time: the types above are what users see of it. */
export class Declaration implements Declared {
  readonly kind: "command" | "event";
  readonly name: string;
  readonly channel: string;
  readonly policy: CheckedPolicy;
  readonly startFrom: StartFrom;
  readonly handlers = new Map<AnyContract, Handled>();
  readonly #started: () => boolean;

  constructor(
    kind: "command" | "event",
    name: string,
    channel: string,
    policy: CheckedPolicy,
    started: () => boolean,
    startFrom: StartFrom = "now",
  ) {
    this.startFrom = startFrom;
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

  handleMany(command: unknown, options: unknown, handler: unknown): this {
    return this.#addMany(requireKind(command, "command", "handleMany"), "handleMany", options, handler);
  }

  onMany(event: unknown, options: unknown, handler: unknown): this {
    return this.#addMany(requireKind(event, "event", "onMany"), "onMany", options, handler);
  }

  #add(contract: AnyContract, verb: Working, handler: unknown): this {
    const call = this.#check(contract, verb, handler);
    const handle = (payload: unknown, context: RunContext): unknown => call(payload, context);
    this.handlers.set(contract, { contract, handler: handle });
    return this;
  }

  #addMany(contract: AnyContract, verb: Working, options: unknown, handler: unknown): this {
    const { size, maxWaitMs } = checkOptions(options, batchFields, `${verb}(${contract.name})`);
    const call = this.#check(contract, verb, handler);
    this.#refuseMany(contract, verb);
    const many: Many = { size, maxWaitMs, handler: (messages, context) => call(messages, context) };
    this.handlers.set(contract, { contract, handler: () => undefined, many });
    return this;
  }

  /** What a handler of many cannot keep is refused, with the reason. */
  #refuseMany(contract: AnyContract, verb: Working): void {
    const facts = { name: this.name, contract: contract.name };
    const instead = one[this.kind];
    if (this.policy.ordering !== "none") {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `"${this.name}" keeps order per key, and ${verb}() cannot: when one message of a batch fails, those behind it of its key have run already. Use ${instead}(), or say ordering: "none".`,
        facts,
      );
    }
    if (contract["~posthorn"].inside.result !== undefined) {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `${contract.name} has a result, which belongs to one message, and ${verb}() takes many. Use ${instead}(), or leave the result out of the contract.`,
        facts,
      );
    }
  }

  /** One handler for each version, be it its own or one that is brought to it. */
  #refuseTwice(contract: AnyContract): void {
    const read = new Set(readableVersions(contract));
    for (const other of this.handlers.keys()) {
      const both = other.name === contract.name ? readableVersions(other).filter((version) => read.has(version)) : [];
      if (both.length === 0) continue;
      const what =
        read.size > 1 || other.version !== contract.version ? `${contract.name} version ${both[0]}` : contract.name;
      const message = `"${this.name}" has a handler for ${what} already. Remove one.`;
      throw new ConfigurationError("PH_DECLARED_TWICE", message, { contract: contract.name });
    }
  }

  /** Whether a handler may be added; returns it. */
  #check(contract: AnyContract, verb: Working, handler: unknown): (...given: unknown[]) => unknown {
    if (this.kind !== contract.kind) {
      const is = `${this.kind === "command" ? "a queue" : "a subscription"}: use ${workings[verb][this.kind]}()`;
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
    if (!isFunction(handler)) {
      const place = verb === "handle" || verb === "on" ? "second" : "third";
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `${verb}(${contract.name}, …) takes a function as its ${place} argument, got ${show(handler)}.`,
      );
    }
    this.#refuseTwice(contract);
    if (limitsKeys(this.policy) && !describe(contract).keyed) {
      const name = this.policy.keyConcurrency === undefined ? "keyRateLimit" : "keyConcurrency";
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        `${contract.name} has no key, and "${this.name}" has a ${name}. Give the contract a key, or leave the limit out.`,
        { contract: contract.name, path: `${this.name}.${name}` },
      );
    }
    if (this.#started()) {
      throw new ConfigurationError(
        "PH_DECLARED_LATE",
        `The handler of ${contract.name} was added after start(). Import the file that adds it before.`,
        { contract: contract.name },
      );
    }
    return handler;
  }
}

function isFunction(value: unknown): value is (...given: unknown[]) => unknown {
  return typeof value === "function";
}
