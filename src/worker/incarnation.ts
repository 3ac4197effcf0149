/**
 * One registration of this process as a worker: its connections, its row, its readers. It ends as a whole: when a connection is lost or
 * the worker counts as dead, others may have rescued what it holds, so everything unsettled is dropped and a new one begins.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Database } from "../core/database.js";
import { Deadlines } from "../core/deadlines.js";
import { errorOf, SchemaVersionError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { Loop } from "../core/loop.js";
import { dedupePass, tidyEveryMs } from "../maintenance/dedupe.js";
import { pruneEveryMs, prunePass } from "../maintenance/prune.js";
import { rescuePass } from "../maintenance/rescue.js";
import { rotatePass } from "../maintenance/rotate.js";
import { stepsPass } from "../maintenance/steps.js";
import { sweepPass } from "../maintenance/sweep.js";
import { watchEveryMs, watchPass } from "../maintenance/watch.js";
import type { Asking } from "../producer/receipt.js";
import type { Room } from "../producer/room.js";
import type { Side } from "../producer/side.js";
import type { Waker } from "../producer/waker.js";
import { cancelRequests } from "../store/cancel.js";
import { countSkipped, forgetWorker, heartbeat, holdSessionLock, standing } from "../store/fleet.js";
import { type Found, refuseUnfitFacts, refuseUnfitSchema } from "../store/migrate.js";
import { cancelPayload, channelsOf, wakeChannel } from "../store/wake.js";
import { Poller } from "./poller.js";
import { Progress } from "./progress.js";
import { Reader } from "./reader.js";
import type { ReaderOptions } from "./reading.js";
import { type Connections, type Registered, type Registering, registerAll } from "./registration.js";
import type { Slots } from "./slots.js";

export interface WorkerOptions extends Registering {
  readonly database: Database;
  readonly side: Side;
  readonly waker: Waker;
  readonly asking: Asking;
  readonly room: Room;
  readonly logger: Logger;
  /** Handler transactions of this process; a run that was dropped may still hold one, so incarnations share them. */
  readonly slots: Slots;
  /** How many handlers may lie between a message and the one that began it. */
  readonly causationLimit: number;
  /** Sends what is due of the schedules of the fleet; returns how long to wait. */
  readonly schedules: { pass(): Promise<number> };
  /** Runs the intakes of this process for a worker; undefined where there are none. `again` as in `Incarnation.begin`. */
  readonly intakes: { begin(worker: string, again: boolean): Promise<Companion | undefined> };
}

/** What lives with a registration. */
export interface Companion {
  start(): void;
  stop(): Promise<void>;
  abandon(): Promise<void>;
}

/** After a rescue most parked keys are looked at, at once; otherwise one page now and then. */
const sweptAfterRescue = 20;

export class Incarnation {
  readonly #options: WorkerOptions;
  readonly #connections: Connections;
  readonly #worker: string;
  readonly #progress: Progress;
  readonly #readers: readonly Reader[];
  readonly #poller: Poller;
  readonly #beats: Loop;
  readonly #watches: Loop;
  readonly #tidies: Loop;
  readonly #schedules: Loop;
  readonly #prunes: Loop;
  readonly #rotates: Loop;
  readonly #intakes: Companion | undefined;
  #broken = false;
  #resolveEnd: (error: unknown) => void = () => undefined;
  /** Settles with the reason when it cannot go on. */
  readonly ended: Promise<unknown>;

  /** `again`: not the first of its process. Its policies are then no newer than those that others declared meanwhile. */
  static async begin(options: WorkerOptions, again: boolean): Promise<Incarnation> {
    let incarnation: Incarnation | undefined;
    const connections = await connect(options, (payload) => incarnation?.heard(payload));
    try {
      await refuseUnfitSchema(connections.session);
      const { worker, readers } = await registerAll(options, connections, again);
      const intakes = await options.intakes.begin(worker, again).catch(async (error) => {
        // It has begun nothing: left there it would count as one that has died.
        await forgetWorker(connections.session, worker).catch(() => undefined);
        throw error;
      });
      incarnation = new Incarnation(options, connections, worker, readers, intakes);
      return incarnation;
    } catch (error) {
      await disconnect(connections);
      throw error;
    }
  }

  constructor(
    options: WorkerOptions,
    connections: Connections,
    worker: string,
    readers: readonly Registered[],
    intakes: Companion | undefined,
  ) {
    this.#options = options;
    this.#intakes = intakes;
    this.#connections = connections;
    this.#worker = worker;
    const onError = (error: unknown): void => this.#warn(error, "the progress of handlers could not be written");
    this.#progress = new Progress({ executor: options.side, worker, onError });
    this.ended = new Promise((resolve) => {
      this.#resolveEnd = resolve;
    });
    this.#readers = readers.map((registered) => new Reader(this.#readerOptions(registered)));
    this.#poller = new Poller({
      session: connections.session,
      worker,
      readers: this.#readers,
      hears: connections.listener !== undefined,
      onDead: () => void this.#rescue(),
      onCancels: () => void this.#cancel(),
      onError: (error) => this.#break(error),
    });
    this.#beats = new Loop({ pass: () => this.#beat(), onError: (error) => this.#break(error) });
    this.#watches = new Loop({ pass: () => this.#watch(), onError: (error) => this.#warn(error) });
    this.#tidies = new Loop({ pass: () => this.#tidy(), onError: (error) => this.#warn(error) });
    this.#schedules = new Loop({ pass: () => options.schedules.pass(), onError: (error) => this.#warn(error) });
    this.#prunes = new Loop({ pass: () => this.#prune(), onError: (error) => this.#warn(error) });
    this.#rotates = new Loop({ pass: () => this.#rotate(), onError: (error) => this.#warn(error) });
    for (const connection of [connections.session, connections.listener]) {
      connection?.lost.then((error) => {
        if (!this.#closing) this.#break(error ?? errorOf("PH_DATABASE_LOST", "The worker's connection was closed."));
      });
    }
  }

  #closing = false;
  /** How long the pass that removes what has been kept for its time waits. */
  #prunedMs: number = pruneEveryMs.idle;

  start(): void {
    for (const reader of this.#readers) reader.start();
    this.#poller.start();
    this.#beats.start();
    this.#alive();
    this.#watches.start();
    this.#tidies.start();
    this.#schedules.start();
    this.#prunes.start();
    this.#rotates.start();
    this.#intakes?.start();
  }

  /** A notification came. */
  heard(payload: string): void {
    if (payload === cancelPayload) void this.#cancel();
    else this.wake(channelsOf(payload));
  }

  /** Messages appeared in these channels; below zero: outside of the log. */
  wake(channels: Iterable<number>): void {
    const woken = new Set(channels);
    for (const reader of this.#readers) {
      const { channel } = reader.options.ids;
      if (woken.has(channel)) reader.hint();
      if (woken.has(-channel)) reader.due(0);
    }
  }

  /** True when nothing ran, nothing is due and nothing is left in the log, at one moment. */
  async isIdle(): Promise<boolean> {
    if (!this.#readers.every((reader) => reader.idle)) return false;
    return (await this.#poller.look()) && this.#readers.every((reader) => reader.idle);
  }

  async stop(graceMs: number): Promise<void> {
    await this.#poller.stop();
    await Promise.all([...this.#readers.map((reader) => reader.stop(graceMs)), this.#intakes?.stop()]);
    this.#closing = true;
    clearTimeout(this.#deadAt);
    const loops = [...this.#passes, this.#beats, this.#progress];
    await Promise.all(loops.map((loop) => loop.stop()));
    await this.#tellSkipped().catch((error) => this.#warn(error));
    // Everything is settled: no rescuer needs to look for us. Should this fail, one finds nothing.
    if (!this.#broken) await forgetWorker(this.#connections.session, this.#worker).catch((error) => this.#warn(error));
    await disconnect(this.#connections);
  }

  /** Drops everything. */
  async abandon(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#deadAt);
    this.#progress.abandon();
    const reason = errorOf(
      "PH_CLAIM_LOST",
      "The worker lost its connection or counts as dead; its messages go to others.",
    );
    // Readers wait for the statement that they sent last, which may be one that nobody answers: it ends with its connection.
    const readers = this.#readers.map((reader) => reader.abandon(reason));
    await Promise.all([...readers, this.#intakes?.abandon(), disconnect(this.#connections)]);
    const loops = [...this.#passes, this.#poller, this.#beats];
    await Promise.all(loops.map((loop) => loop.stop()));
  }

  #readerOptions({ declared, ids, handlers }: Registered): ReaderOptions {
    const { database, catalog, asking, room, logger, waker, service, slots, causationLimit } = this.#options;
    const { session } = this.#connections;
    return {
      name: declared.name,
      kind: declared.kind,
      policy: declared.policy,
      ids,
      handlers,
      carrier: declared.carrier,
      database,
      catalog,
      asking,
      room,
      causationLimit,
      logger,
      session,
      slots,
      progress: this.#progress,
      deadlines: new Deadlines(declared.policy.visibilityTimeoutMs),
      worker: { id: this.#worker, service, host: hostname(), pid: process.pid },
      onSaid: (channels) => waker.wake(channels),
      skipped: new Map(),
      onDry: () => this.#poller.soon(),
      standing: (contract) => standing(session, ids.subscription, contract),
      onBroken: (error) => this.#break(error),
    };
  }

  async #beat(): Promise<number> {
    const sentAt = performance.now();
    const schema = await heartbeat(this.#connections.session, this.#worker, this.#oldest());
    if (schema === undefined) throw errorOf("PH_WORKER_FORGOTTEN", "This worker counted as dead; it registers anew.");
    this.#alive(performance.now() - sentAt);
    if (!this.#closing) this.#endWhereUnfit(schema);
    return Math.min(5_000, this.#options.timeoutMs / 3);
  }

  /** It ends in order: what runs may be settled, since functions live on for a while. */
  #endWhereUnfit(schema: Found): void {
    try {
      refuseUnfitFacts(schema);
    } catch (error) {
      if (!(error instanceof SchemaVersionError)) throw error;
      this.#resolveEnd(error);
    }
  }

  #deadAt: NodeJS.Timeout | undefined;

  /**
   * The dead man's switch: with no heartbeat answered for the time after which others take it for dead, it takes itself for dead, so that its
   * handlers are told before many of their messages run elsewhere. It need not wait until its connection is given up.
   */
  #alive(agoMs = 0): void {
    clearTimeout(this.#deadAt);
    if (this.#broken || this.#closing) return;
    const { timeoutMs } = this.#options;
    this.#deadAt = setTimeout(() => {
      const message = `No heartbeat was answered within ${timeoutMs} ms, so this worker counts as dead; it registers anew.`;
      this.#break(errorOf("PH_WORKER_FORGOTTEN", message));
    }, timeoutMs - agoMs).unref();
  }

  /**
   * The oldest claim that may be open. Claims go over one session, one after another, so a claim whose answer is still to come has a
   * higher id than all whose answers we have.
   */
  #oldest(): string | null {
    let first: bigint | undefined;
    let highest: bigint | undefined;
    for (const { claims } of this.#readers) {
      if (claims.firstOpen !== undefined && (first === undefined || claims.firstOpen < first)) first = claims.firstOpen;
      if (claims.highest !== undefined && (highest === undefined || claims.highest > highest)) highest = claims.highest;
    }
    if (first !== undefined) return first.toString();
    return highest === undefined ? null : (highest + 1n).toString();
  }

  #rescuing = false;

  async #rescue(): Promise<void> {
    if (this.#rescuing) return;
    this.#rescuing = true;
    try {
      while (await rescuePass(this.#options.side, this.#options.logger)) {
        // Bounded by what the dead held.
      }
      await sweepPass(this.#options.side, sweptAfterRescue);
      this.#poller.soon();
    } catch (error) {
      this.#warn(error);
    } finally {
      this.#rescuing = false;
    }
  }

  /** Fires the signals of runs that somebody asked to cancel. Asked again until they have ended: a message may just be on its way here. */
  async #cancel(): Promise<void> {
    try {
      for (const [subscription, message] of await cancelRequests(this.#options.side, this.#worker)) {
        for (const reader of this.#readers) if (reader.subscription === subscription) reader.cancel(message);
      }
    } catch (error) {
      this.#warn(error);
    }
  }

  get #passes(): readonly Loop[] {
    return [this.#watches, this.#tidies, this.#schedules, this.#prunes, this.#rotates];
  }

  #rotate(): Promise<number> {
    return rotatePass(this.#options.side, this.#options.logger);
  }

  async #prune(): Promise<number> {
    const { side } = this.#options;
    const soonMs = await prunePass(side, this.#prunedMs);
    const more = await stepsPass(side, this.#prunedMs);
    this.#prunedMs = more ? pruneEveryMs.pending : soonMs;
    return this.#prunedMs;
  }

  async #watch(): Promise<number> {
    await this.#tellSkipped();
    await watchPass(this.#options.side, this.#options.logger);
    if (await sweepPass(this.#options.side, 1)) this.#poller.soon();
    return watchEveryMs;
  }

  async #tellSkipped(): Promise<void> {
    for (const { options, subscription } of this.#readers) {
      const skipped = new Map(options.skipped);
      if (skipped.size === 0) continue;
      await countSkipped(this.#options.side, subscription, skipped);
      // Those that were skipped meanwhile are for the next time.
      for (const [contract, count] of skipped) {
        const more = (options.skipped.get(contract) ?? 0) - count;
        if (more > 0) options.skipped.set(contract, more);
        else options.skipped.delete(contract);
      }
    }
  }

  async #tidy(): Promise<number> {
    await dedupePass(this.#options.side);
    return tidyEveryMs;
  }

  #warn(error: unknown, what = "a pass of maintenance failed; it is tried again"): void {
    if (!this.#closing) this.#options.logger.warn(what, { error });
  }

  #break(error: unknown): void {
    if (this.#broken || this.#closing) return;
    this.#broken = true;
    clearTimeout(this.#deadAt);
    this.#resolveEnd(error);
  }
}

async function connect(options: WorkerOptions, onNotify: (payload: string) => void): Promise<Connections> {
  const { database } = options;
  const listener = await database.listen(wakeChannel, onNotify);
  try {
    // On a database with one connection a session lock would say nothing: everybody shares the session.
    const sessionKey = listener === undefined || database.single ? null : randomBytes(8).readBigInt64BE().toString();
    if (listener !== undefined && sessionKey !== null) await holdSessionLock(listener, sessionKey);
    return { listener, sessionKey, session: await database.session() };
  } catch (error) {
    await listener?.close();
    throw error;
  }
}

async function disconnect({ session, listener }: Connections): Promise<void> {
  await Promise.all([session.close(), listener?.close()]);
}
