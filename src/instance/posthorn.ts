/**
 * `posthorn()`: declares what is carried and how, and opens the database when it is first needed.
 *
 * The instance owns no rule; it wires the layers. Opening, migrating and starting happen once, however many calls come first.
 */

import { isContract } from "../contracts/contract.js";
import { requireKind } from "../contracts/require-kind.js";
import { ConfigurationError, StoppedError, UnknownMessageError, WouldDeadlockError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { consoleLogger, type Logger } from "../core/logger.js";
import { checkName } from "../core/names.js";
import { checkOptions } from "../core/options.js";
import { quote, show } from "../core/show.js";
import { suggestion } from "../core/suggest.js";
import type { DatabaseInput, TxOf } from "../databases/open.js";
import { executorOf } from "../databases/recognise.js";
import { isPgliteTransaction } from "../databases/shapes.js";
import type { Intake } from "../intakes/options.js";
import { checkPolicy, checkSubscription } from "../policies/policy.js";
import { Answers } from "../producer/ask.js";
import { sayIn } from "../producer/producer.js";
import { SentReceipt } from "../producer/receipt.js";
import type { Say } from "../producer/say.js";
import { runTransaction } from "../producer/transaction.js";
import { ScheduleDeclaration } from "../schedules/schedule.js";
import { Scheduler } from "../schedules/scheduler.js";
import { intakeLines } from "../store/intakes.js";
import type { MigrateMode } from "../store/migrate.js";
import type { TopicEntry } from "../store/registry.js";
import { defaultSchema, executorIn } from "../store/schema.js";
import { unknownMessage as noMessage } from "../store/segments.js";
import { backlog, isPublicId, messageStatus } from "../store/status.js";
import type { WorkerOptions } from "../worker/incarnation.js";
import type { Declared } from "../worker/registration.js";
import { Slots } from "../worker/slots.js";
import { Worker } from "../worker/worker.js";
import { type Exported, exported } from "./exported.js";
import { DeclaredIntakes, registerIntakes } from "./intakes.js";
import { claimService } from "./once.js";
import { refuseUnread } from "./one-way.js";
import { close, type Opened, type Opening, open, openInside } from "./opened.js";
import { Operating } from "./operate.js";
import { defaultRetention, instanceFields, startFields, stopFields, topicFields } from "./options.js";
import type { Post, Topic } from "./post.js";
import type { PosthornOptions } from "./posthorn-options.js";
import { Declaration } from "./queue.js";
import { openRelays, RelayDeclaration, relayUses } from "./relay.js";
import { scalingReport } from "./scaling.js";
import { stopOnSignals } from "./signals.js";

/**
 * Makes an instance. Nothing is opened until it is used.
 *
 * Errors: `ConfigurationError` for options; a second instance of a service on one database in one process is refused.
 */
export function posthorn<const D extends DatabaseInput>(options: PosthornOptions<D>): Post<TxOf<D>> {
  return new Instance(options) as Post<TxOf<D>>;
}

class Instance {
  readonly service: string;
  readonly #opening: Opening;
  readonly #migrate: MigrateMode;
  readonly #logger: Logger;
  readonly #workerTimeoutMs: number;
  readonly #causationLimit: number;
  readonly #retention: WorkerOptions["retention"];
  readonly #release: () => void;
  readonly #answers = new Answers();
  readonly #declarations = new Map<string, Declaration | RelayDeclaration>();
  readonly #schedules = new Map<string, ScheduleDeclaration>();
  readonly #topics = new Map<string, TopicEntry>();
  readonly #intakes: DeclaredIntakes;
  #opened: Promise<Opened> | undefined;
  /** The same once it has succeeded. */
  #ready: Opened | undefined;
  /** From the first `start` on, unless it failed. */
  #starting: Promise<void> | undefined;
  #worker: Worker | undefined;
  /** What relays of this process have opened. */
  #closeRelays: () => Promise<void> = async () => undefined;
  #stopped: Promise<void> | undefined;
  #unlisten: (() => void) | undefined;
  /** While the worker drains, its handlers can still say and ask. */
  #draining = false;

  constructor(options: PosthornOptions<DatabaseInput>) {
    const checked = checkOptions(options, instanceFields, "posthorn()");
    this.service = checked.service;
    const input = checked.database;
    const onServer = typeof input === "string" ? !input.startsWith("embedded:") : "totalCount" in input;
    this.#migrate = checked.migrate ?? (onServer ? "check" : "auto");
    this.#logger = checked.logger ?? consoleLogger;
    this.#intakes = new DeclaredIntakes(this.service, this.#logger);
    this.#workerTimeoutMs = checked.workerTimeoutMs;
    this.#causationLimit = checked.causationLimit;
    this.#retention = { ...(checked.retention ?? defaultRetention), explicit: checked.retention !== undefined };
    this.#opening = {
      input,
      service: this.service,
      schema: checked.schema ?? defaultSchema,
      options: {
        statementTimeoutMs: checked.statementTimeoutMs,
        ...(checked.pooler === undefined ? {} : { pooler: checked.pooler }),
      },
      logger: this.#logger,
      topics: this.#topics,
      refuseStopped: () => this.#refuseStopped(),
    };
    this.#release = claimService(this.service, input, this.#opening.schema);
  }

  /** What tools read of an instance that a program exports. A property with a brand, so that another copy of the package can read it too. */
  get [exported](): Exported {
    return {
      version: 1,
      service: this.service,
      database: this.#opening.input,
      schema: this.#opening.schema,
      declared: [...this.#declarations.values()],
      intakes: this.#intakes.choose(undefined).map(({ declaration }) => declaration),
    };
  }

  queue(name: unknown, policy: unknown): Declaration {
    const queue = checkName(name, "queue");
    return this.#declare(new Declaration("command", queue, queue, checkPolicy(policy, queue), () => this.#started));
  }

  subscription(name: unknown, options: unknown): Declaration {
    const reader = checkName(name, "subscription");
    const { topic, startFrom, policy } = checkSubscription(options, reader);
    return this.#declare(new Declaration("event", reader, topic, policy, () => this.#started, startFrom));
  }

  get #started(): boolean {
    return this.#starting !== undefined;
  }

  relay(name: unknown, options: unknown): RelayDeclaration {
    const relay = checkName(name, "relay");
    return this.#declare(new RelayDeclaration(relay, options, this.service, this.#logger));
  }

  #declare<D extends Declaration | RelayDeclaration>(declaration: D): D {
    const { name } = declaration;
    refuseDeclared("queue, subscription or relay", name, this.#declarations.has(name), this.#started);
    this.#declarations.set(name, declaration);
    return declaration;
  }

  schedule(name: unknown, options: unknown): ScheduleDeclaration {
    const schedule = new ScheduleDeclaration(name, options);
    refuseDeclared("schedule", schedule.name, this.#schedules.has(schedule.name), this.#started);
    this.#schedules.set(schedule.name, schedule);
    return schedule;
  }

  intake(name: unknown, options: unknown): Intake {
    const refuse = (checked: string, twice: boolean): void => refuseDeclared("intake", checked, twice, this.#started);
    return this.#intakes.declare(name, options, refuse);
  }

  topic(name: unknown, options: unknown): Topic {
    const topic = checkName(name, "topic");
    const { keepMs, lanes } = checkOptions(options ?? {}, topicFields, `topic(${quote(topic)})`);
    refuseDeclared("topic", topic, this.#topics.has(topic), this.#started);
    this.#topics.set(topic, { name: topic, keepMs, lanes });
    return { name: topic };
  }

  answer(query: unknown, answer: unknown): void {
    this.#answers.answer(query, answer);
  }

  // The verbs are bound, because users take them apart: const { send } = post.
  // The kind is checked before anything is opened: a wrong verb is told as such also while the database is away.
  readonly send: Say["send"] = async (...said) => {
    requireKind(said[0], "command", "send");
    return (await this.#open()).say.send(...said);
  };
  readonly sendMany: Say["sendMany"] = async (...said) => {
    requireKind(said[0], "command", "sendMany");
    const listed = asListed(said);
    return (await this.#open()).say.sendMany(...listed);
  };
  readonly publish: Say["publish"] = async (...said) => {
    requireKind(said[0], "event", "publish");
    return (await this.#open()).say.publish(...said);
  };
  readonly publishMany: Say["publishMany"] = async (...said) => {
    requireKind(said[0], "event", "publishMany");
    const listed = asListed(said);
    return (await this.#open()).say.publishMany(...listed);
  };

  async ask(query: unknown, request: unknown, options?: unknown): Promise<unknown> {
    return this.#answers.ask(async () => (await this.#open()).producing.database, query, request, options);
  }

  async transaction(work: Parameters<typeof runTransaction>[1]): Promise<unknown> {
    if (typeof work !== "function") {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        "transaction() takes a function: await post.transaction(async ({ tx, publish }) => { … }).",
      );
    }
    return runTransaction((await this.#open()).producing, work);
  }

  in(tx: unknown): Say {
    const opening = this.#openFor(tx);
    // Whoever awaits a verb sees it; a caller who only makes the object must not get an unhandled rejection.
    opening.catch(() => undefined);
    const say = opening.then(({ producing }) =>
      sayIn(producing, async () => executorIn(this.#opening.schema, await executorOf(tx, producing.database))),
    );
    say.catch(() => undefined);
    return {
      send: async (...said) => (await say).send(...said),
      sendMany: async (...said) => {
        const listed = asListed(said);
        return (await say).sendMany(...listed);
      },
      publish: async (...said) => (await say).publish(...said),
      publishMany: async (...said) => {
        const listed = asListed(said);
        return (await say).publishMany(...listed);
      },
    };
  }

  receipt(first: unknown, second?: unknown): SentReceipt {
    const bare = second === undefined && !isContract(first);
    const [contract, id] = bare ? [undefined, first] : [requireKind(first, "command", "receipt"), second];
    if (!isPublicId(id)) throw unknownMessage(id);
    return new SentReceipt(async () => (await this.#open()).producing.asking, contract, id);
  }

  async statusOf(id: unknown) {
    const { producing } = await this.#open();
    producing.asking.check("statusOf()");
    const status = isPublicId(id) ? await messageStatus(producing.database, id) : null;
    if (status !== null) return status;
    throw isPublicId(id) ? await noMessage(producing.database, id) : unknownMessage(id);
  }

  readonly operate = new Operating(async () => (await this.#open()).producing.asking);

  async backlog() {
    const { producing } = await this.#open();
    producing.asking.check("backlog()");
    return backlog(producing.database);
  }

  async intakes() {
    const { producing } = await this.#open();
    producing.asking.check("intakes()");
    return intakeLines(producing.database);
  }

  async scaling() {
    const { producing } = await this.#open();
    producing.asking.check("scaling()");
    return scalingReport(producing.database);
  }

  async ready() {
    const { producing } = await this.#open();
    producing.asking.check("ready()");
    await producing.database.query("select 1 as one");
    // Between two registrations nothing is worked on, and the reason is known.
    if (this.#worker?.trouble !== undefined) throw this.#worker.trouble;
    return { working: this.#worker !== undefined };
  }

  async migrate(): Promise<void> {
    this.#refuseStopped();
    // One that is under way may only look; whatever it finds, the next one may migrate.
    while (this.#ready === undefined) {
      const underWay = this.#opened;
      if (underWay === undefined) await this.#openWith("auto");
      else await underWay.catch(() => undefined);
      this.#refuseStopped();
    }
  }

  async start(options?: unknown): Promise<void> {
    this.#refuseStopped();
    const chosen = this.#choose(options);
    if (this.#started || this.#stopped !== undefined) {
      throw new ConfigurationError(
        "PH_DECLARED_TWICE",
        "start() was called before, and this instance works already. Call it once, with everything that it is to work on.",
      );
    }
    refuseUnread([...relayUses(this.#declarations.values()), ...this.#intakes.uses]);
    const starting = this.#start(chosen);
    this.#starting = starting;
    // From here on: a signal that comes meanwhile stops what has begun.
    if (chosen.handleSignals) this.#unlisten = stopOnSignals(() => this.stop(), this.#logger);
    try {
      await starting;
    } catch (error) {
      this.#starting = undefined;
      this.#unlisten?.();
      throw error;
    }
  }

  async #start({ declared, intakes }: Chosen): Promise<void> {
    const { producing, side } = await this.#open();
    const { database, catalog, waker, asking, room } = producing;
    const { service } = this;
    const schedules = new Scheduler({
      declared: [...this.#schedules.values()],
      service,
      executor: side,
      catalog,
      waker,
      logger: this.#logger,
    });
    await schedules.declare();
    const { names } = this.#intakes;
    const logger = this.#logger;
    const known = { declared: intakes, names, executor: database, side, catalog, waker, logger };
    const registered = await registerIntakes(known);
    const worker = new Worker({
      database,
      service,
      declared,
      catalog,
      side,
      waker,
      asking,
      room,
      logger: this.#logger,
      slots: new Slots(database),
      timeoutMs: this.#workerTimeoutMs,
      causationLimit: this.#causationLimit,
      retention: this.#retention,
      schedules,
      intakes: registered,
    });
    try {
      this.#closeRelays = await openRelays(declared);
      await worker.start();
    } catch (error) {
      await this.#closeRelays();
      await registered.withdraw();
      throw error;
    }
    this.#worker = worker;
  }

  /** All, or those named; an unknown name lists the known ones. */
  #choose(options: unknown): Chosen {
    const given = checkOptions(options ?? {}, startFields, "start()");
    const { handleSignals } = given;
    if (given.queues === undefined && given.subscriptions === undefined && given.intakes === undefined)
      return { declared: [...this.#declarations.values()], intakes: this.#intakes.choose(undefined), handleSignals };
    const pick = (kind: Declared["kind"], names: readonly string[] = []): Declared[] => {
      const known = [...this.#declarations.values()].filter((declaration) => declaration.kind === kind);
      const twice = names.find((name, i) => names.indexOf(name) !== i);
      if (twice !== undefined) {
        throw new ConfigurationError("PH_OPTION_INVALID", `start() names "${twice}" twice. Name it once.`, {
          name: twice,
        });
      }
      return names.map((name) => {
        const found = known.find((declaration) => declaration.name === name);
        if (found !== undefined) return found;
        const what = kind === "command" ? "queue" : "subscription";
        const message = `start() names the ${what} "${name}", which is not declared.${suggestion(
          name,
          known.map((one) => one.name),
        )}`;
        throw new ConfigurationError("PH_OPTION_INVALID", message, { name });
      });
    };
    const declared = [...pick("command", given.queues), ...pick("event", given.subscriptions)];
    return { declared, intakes: this.#intakes.choose(given.intakes ?? []), handleSignals };
  }

  async stop(options?: unknown): Promise<void> {
    const { graceMs } = checkOptions(options ?? {}, stopFields, "stop()");
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  async #stop(graceMs: number): Promise<void> {
    this.#unlisten?.();
    this.#draining = this.#started;
    try {
      // A worker that is about to begin must not outlive this.
      await this.#starting?.catch(() => undefined);
      await this.#worker?.stop(graceMs);
    } finally {
      await this.#closeRelays();
      this.#draining = false;
      try {
        const opened = await this.#opened?.catch(() => undefined);
        if (opened !== undefined) await close(opened);
      } finally {
        this.#release();
      }
    }
  }

  async untilIdle(): Promise<void> {
    this.#refuseStopped();
    await this.#starting;
    if (this.#worker === undefined) {
      throw new ConfigurationError(
        "PH_NOT_STARTED",
        "untilIdle() waits for the work of this process, and none was started. Call start() first.",
      );
    }
    if (this.#ready?.producing.database.insideTransaction()) {
      throw new WouldDeadlockError(
        "PH_WOULD_DEADLOCK",
        "untilIdle() would wait for the transaction or handler that it is called from. Call it after that has ended.",
      );
    }
    await this.#worker.untilIdle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #refuseStopped(): void {
    if (this.#stopped !== undefined && !this.#draining)
      throw new StoppedError("PH_STOPPED", "The instance was stopped; make a new one to go on.");
  }

  async #open(): Promise<Opened> {
    this.#refuseStopped();
    return this.#openWith(this.#migrate);
  }

  /** Waiting for the first opening would be waiting for `tx` where it holds the only connection. */
  async #openFor(tx: unknown): Promise<Opened> {
    this.#refuseStopped();
    const inPglite = typeof this.#opening.input !== "string" && isPgliteTransaction(tx) && !tx.closed;
    return this.#ready ?? (inPglite ? openInside(this.#opening, tx) : this.#open());
  }

  /** Opens once. A failure is forgotten, so that the next call tries again. */
  #openWith(mode: MigrateMode): Promise<Opened> {
    if (this.#opened !== undefined) return this.#opened;
    const opening = open(this.#opening, mode);
    this.#opened = opening;
    opening.then(
      (opened) => {
        this.#ready = opened;
      },
      () => {
        if (this.#opened === opening) this.#opened = undefined;
      },
    );
    return opening;
  }
}

/** What a start works on. */
interface Chosen {
  readonly declared: readonly Declared[];
  readonly intakes: ReturnType<DeclaredIntakes["choose"]>;
  readonly handleSignals: boolean;
}

function refuseDeclared(what: string, name: string, twice: boolean, late: boolean): void {
  if (twice) {
    const message = `${what === "intake" ? "An" : "A"} ${what} is called "${name}" already. Rename one of them.`;
    throw new ConfigurationError("PH_DECLARED_TWICE", message, { name });
  }
  if (!late) return;
  const message = `"${name}" was declared after start(). Declare it before.`;
  throw new ConfigurationError("PH_DECLARED_LATE", message, { name });
}

function unknownMessage(id: unknown): UnknownMessageError {
  return new UnknownMessageError(
    "PH_UNKNOWN_MESSAGE",
    `No message has this id: ${show(id)}. Is it whole, and is this the database that it was said in?`,
    typeof id === "string" ? { id: id.slice(0, limits.nameLength) } : {},
  );
}

/** The list as it is at the call: a caller may go on filling it, or empty it, while the call waits for the database. */
function asListed<A extends [unknown, Iterable<unknown>, ...unknown[]]>(said: A): A {
  const listed: A = [...said];
  if (Array.isArray(said[1])) listed[1] = said[1].slice();
  return listed;
}
