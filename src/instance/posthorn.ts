/**
 * `posthorn()`: declares what is carried and how, and opens the database when it is first needed.
 *
 * The instance owns no rule; it wires the layers. Opening, migrating and starting happen once, however many calls come first.
 */

import type { Database } from "../core/database.js";
import { ConfigurationError, StoppedError, UnknownMessageError, WouldDeadlockError } from "../core/errors.js";
import { consoleLogger, type Logger } from "../core/logger.js";
import { checkName } from "../core/names.js";
import { checkOptions } from "../core/options.js";
import { suggestion } from "../core/suggest.js";
import { type DatabaseInput, openDatabase, type TxOf } from "../databases/open.js";
import { executorOf } from "../databases/recognise.js";
import { checkPolicy, checkSubscription } from "../policies/policy.js";
import { Answers } from "../producer/ask.js";
import { Catalog } from "../producer/catalog.js";
import { type Producing, sayIn, sayNow } from "../producer/producer.js";
import type { Asking } from "../producer/receipt.js";
import type { Say } from "../producer/say.js";
import { Side } from "../producer/side.js";
import { runTransaction } from "../producer/transaction.js";
import { Waker } from "../producer/waker.js";
import { ensureSchema, type MigrateMode } from "../store/migrate.js";
import { Publisher } from "../store/publish.js";
import { backlog, messageStatus } from "../store/status.js";
import { Worker } from "../worker/worker.js";
import { claimService } from "./once.js";
import { instanceFields, startFields, stopFields } from "./options.js";
import type { Post } from "./post.js";
import { Declaration } from "./queue.js";

export interface PosthornOptions<D> {
  /** The name of this service: owner of the events that it publishes, shown beside its workers. */
  readonly service: string;
  /** A `postgres://` URL, `embedded:<folder>`, a `pg.Pool` or a PGlite instance. */
  readonly database: D;
  /**
   * What to do when the schema is missing or older than this code.
   *
   * Default "auto" on an embedded database, "check" on a server.
   */
  readonly migrate?: MigrateMode;
  /** Default: warnings and errors to the console. */
  readonly logger?: Logger;
  /**
   * Without a heartbeat for so long, a worker of this process counts as dead. Too small and a busy process is taken for a dead
   * one; too large and the messages of a stopped one wait.
   *
   * Default 15000. Range 1000 to 600000.
   */
  readonly workerTimeoutMs?: number;
}

/** Everything that exists once the database is open. */
interface Opened {
  readonly producing: Producing;
  readonly side: Side;
  readonly say: Say;
}

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
  readonly #input: DatabaseInput;
  readonly #migrate: MigrateMode;
  readonly #logger: Logger;
  readonly #workerTimeoutMs: number;
  readonly #release: () => void;
  readonly #answers = new Answers();
  readonly #declarations = new Map<string, Declaration>();
  #opened: Promise<Opened> | undefined;
  #worker: Worker | undefined;
  #starting = false;
  #stopped: Promise<void> | undefined;

  constructor(options: PosthornOptions<DatabaseInput>) {
    const checked = checkOptions(options, instanceFields, "posthorn()");
    this.service = checked.service;
    this.#input = options.database;
    const onServer =
      typeof this.#input === "string" ? !this.#input.startsWith("embedded:") : "totalCount" in this.#input;
    this.#migrate = options.migrate ?? (onServer ? "check" : "auto");
    this.#logger = checked.logger ?? consoleLogger;
    this.#workerTimeoutMs = checked.workerTimeoutMs;
    this.#release = claimService(this.service, this.#input);
  }

  queue(name: unknown, policy: unknown): Declaration {
    const queue = checkName(name, "queue");
    return this.#declare(new Declaration("command", queue, queue, checkPolicy(policy, queue), () => this.#starting));
  }

  subscription(name: unknown, options: unknown): Declaration {
    const reader = checkName(name, "subscription");
    const { topic, policy } = checkSubscription(options, reader);
    return this.#declare(new Declaration("event", reader, topic, policy, () => this.#starting));
  }

  #declare(declaration: Declaration): Declaration {
    const { name } = declaration;
    if (this.#declarations.has(name)) {
      throw new ConfigurationError(
        "PH_DECLARED_TWICE",
        `A queue or subscription is called "${name}" already. Rename one of them.`,
        {
          name,
        },
      );
    }
    if (this.#starting) {
      throw new ConfigurationError("PH_DECLARED_LATE", `"${name}" was declared after start(). Declare it before.`, {
        name,
      });
    }
    this.#declarations.set(name, declaration);
    return declaration;
  }

  answer(query: unknown, answer: unknown): void {
    this.#answers.answer(query, answer);
  }

  // The verbs are bound, because users take them apart: const { send } = post.
  readonly send: Say["send"] = async (...said) => (await this.#open()).say.send(...said);
  readonly sendMany: Say["sendMany"] = async (...said) => (await this.#open()).say.sendMany(...said);
  readonly publish: Say["publish"] = async (...said) => (await this.#open()).say.publish(...said);
  readonly publishMany: Say["publishMany"] = async (...said) => (await this.#open()).say.publishMany(...said);

  async ask(query: unknown, request: unknown, options?: unknown): Promise<unknown> {
    const { producing } = await this.#open();
    return this.#answers.ask(producing.database, query, request, options);
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
    const opening = this.#open();
    // Whoever awaits a verb sees it; a caller who only makes the object must not get an unhandled rejection.
    opening.catch(() => undefined);
    const say = opening.then(({ producing }) => sayIn(producing, async () => executorOf(tx, producing.database)));
    say.catch(() => undefined);
    return {
      send: async (...said) => (await say).send(...said),
      sendMany: async (...said) => (await say).sendMany(...said),
      publish: async (...said) => (await say).publish(...said),
      publishMany: async (...said) => (await say).publishMany(...said),
    };
  }

  async statusOf(id: string) {
    const { producing } = await this.#open();
    producing.asking.check("statusOf()");
    const status = await messageStatus(producing.database, id);
    if (status === null) {
      throw new UnknownMessageError(
        "PH_UNKNOWN_MESSAGE",
        "No message has this id. Is it whole, and this its database?",
      );
    }
    return status;
  }

  async backlog() {
    const { producing } = await this.#open();
    producing.asking.check("backlog()");
    return backlog(producing.database);
  }

  async migrate(): Promise<void> {
    this.#refuseStopped();
    if (
      this.#opened !== undefined &&
      (await this.#opened.then(
        () => true,
        () => false,
      ))
    )
      return;
    await await this.#openWith("auto");
  }

  async start(options?: unknown): Promise<void> {
    this.#refuseStopped();
    const chosen = this.#choose(options);
    if (this.#starting) {
      throw new ConfigurationError("PH_DECLARED_TWICE", "This instance works already: start() was called before.");
    }
    this.#starting = true;
    try {
      const { producing, side } = await this.#open();
      const { database, catalog, waker, asking } = producing;
      this.#worker = new Worker({
        database,
        service: this.service,
        declared: chosen,
        catalog,
        side,
        waker,
        asking,
        logger: this.#logger,
        timeoutMs: this.#workerTimeoutMs,
      });
      await this.#worker.start();
    } catch (error) {
      this.#starting = false;
      this.#worker = undefined;
      throw error;
    }
  }

  /** All, or those named; an unknown name lists the known ones. */
  #choose(options: unknown): readonly Declaration[] {
    const given = options === undefined ? {} : checkOptions(options, startFields, "the options of start()");
    if (given.queues === undefined && given.subscriptions === undefined) return [...this.#declarations.values()];
    const pick = (kind: Declaration["kind"], names: readonly string[] = []): Declaration[] => {
      const known = [...this.#declarations.values()].filter((declaration) => declaration.kind === kind);
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
    return [...pick("command", given.queues), ...pick("event", given.subscriptions)];
  }

  stop(options?: unknown): Promise<void> {
    const { graceMs } = checkOptions(options ?? {}, stopFields, "the options of stop()");
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  async #stop(graceMs: number): Promise<void> {
    try {
      await this.#worker?.stop(graceMs);
      const opened = await this.#opened?.catch(() => undefined);
      opened?.producing.waker.close();
      await opened?.side.close();
      await opened?.producing.database.close();
    } finally {
      this.#release();
    }
  }

  async untilIdle(): Promise<void> {
    if (this.#worker === undefined) {
      throw new ConfigurationError(
        "PH_NOT_STARTED",
        "untilIdle() waits for the work of this process, and none was started. Call start() first.",
      );
    }
    await this.#worker.untilIdle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #refuseStopped(): void {
    if (this.#stopped !== undefined)
      throw new StoppedError("PH_STOPPED", "The instance was stopped; make a new one to go on.");
  }

  async #open(): Promise<Opened> {
    this.#refuseStopped();
    return this.#openWith(this.#migrate);
  }

  /** Opens once. A failure is forgotten, so that the next call tries again. */
  #openWith(mode: MigrateMode): Promise<Opened> {
    if (this.#opened !== undefined) return this.#opened;
    const opening = open(this.#input, this.service, mode, this.#logger);
    this.#opened = opening;
    opening.catch(() => {
      if (this.#opened === opening) this.#opened = undefined;
    });
    return opening;
  }
}

async function open(input: DatabaseInput, service: string, mode: MigrateMode, logger: Logger): Promise<Opened> {
  const database = await openDatabase(input, { applicationName: `posthorn ${service}` });
  try {
    await ensureSchema(database, mode);
  } catch (error) {
    await database.close();
    throw error;
  }
  const side = new Side(database);
  const asking = askingOf(database);
  const producing: Producing = {
    database,
    asking,
    catalog: new Catalog(database, side, service),
    publisher: new Publisher(),
    waker: new Waker({
      side,
      remote: !database.single,
      onError: (error) => logger.warn("a wake-up failed; polling finds the message", { error }),
    }),
  };
  return { producing, side, say: sayNow(producing) };
}

/** Reads for receipts; from inside a transaction on a database with one connection it would wait for itself. */
function askingOf(database: Database): Asking {
  return {
    query: (text, params) => database.query(text, params),
    check: (call) => {
      if (!database.single || !database.insideTransaction()) return;
      throw new WouldDeadlockError(
        "PH_WOULD_DEADLOCK",
        `${call} would wait for the transaction that it is called from: the embedded database has one connection. Call it after the transaction.`,
      );
    },
  };
}
