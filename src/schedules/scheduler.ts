/**
 * Declares the schedules of this process, and sends what is due of all schedules of the fleet.
 *
 * Every process that was started does both. Two that are at it in the same moment harm nothing: the database lets one of them send. If this
 * process dies anywhere, either its transaction has committed and the schedule has moved on, or nothing has happened and another sends.
 */
import { createHash } from "node:crypto";
import type { Executor } from "../core/database.js";
import { errorOf } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Logger } from "../core/logger.js";
import { durationInWords } from "../core/words.js";
import type { Catalog } from "../producer/catalog.js";
import type { Waker } from "../producer/waker.js";
import {
  type DueSchedule,
  declareSchedule,
  dueSchedules,
  type Firing,
  fireSchedules,
  noteScheduleFailure,
  scheduleNow,
  type Timed,
} from "../store/schedules.js";
import { dueOf, jitterOf } from "./due.js";
import type { ScheduleDeclaration } from "./schedule.js";
import { Times } from "./times.js";

export interface SchedulerOptions {
  readonly declared: readonly ScheduleDeclaration[];
  readonly service: string;
  readonly executor: Executor;
  readonly catalog: Pick<Catalog, "ids">;
  readonly waker: Pick<Waker, "wake">;
  readonly logger: Logger;
}

/** The longest time between two looks: so late this process notices schedules that others have declared since. */
const lookMs = 30_000;
/** When others were faster: what they sent may not be committed yet. */
const againMs = 25;
/** Schedules that one look takes. */
const schedulesPerLook = 100;
/** Commands that one transaction sends, and about how many bytes. */
const most = { commands: 100, bytes: 4 * limits.payloadBytes } as const;
/** After a command that could not be made. */
const pauseMs = { first: 1_000, longest: 60_000 } as const;

interface Failing {
  readonly pauseMs: number;
  /** By the clock of this process that only goes forward. */
  readonly until: number;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #own = new Map<string, { readonly declaration: ScheduleDeclaration; readonly revision: number }>();
  readonly #times = new Map<string, { readonly cron: string; readonly timeZone: string; readonly times: Times }>();
  readonly #failing = new Map<string, Failing>();

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Once for each start. Errors: `ContractViolationError` of an asynchronous schema, `ContractConflictError`. */
  async declare(): Promise<void> {
    for (const declaration of this.#options.declared) await this.#declare(declaration);
  }

  async #declare(declaration: ScheduleDeclaration): Promise<void> {
    const { executor, catalog, logger, service } = this.#options;
    const { name, cron, timeZone, jitterMs, source } = declaration;
    const said = await declaration.first;
    const { ids } = await catalog.ids([declaration.command], false);
    const known = await scheduleNow(executor, name);
    const same = known.cron === cron && known.timeZone === timeZone;
    const next = (same ? known.nextAt : null) ?? this.#first(declaration, Math.max(known.now, known.lastAt ?? 0));
    const { revision, before } = await declareSchedule(executor, {
      name,
      cron,
      timeZone,
      contract: ids.get(declaration.command)?.contract ?? 0,
      missed: declaration.missed,
      jitterMs,
      payload: source === null ? said.json : null,
      key: source === null ? said.key : null,
      headers: declaration.headers,
      function: source === null ? null : createHash("sha256").update(source).digest("hex"),
      service,
      next,
      due: next + jitterOf(name, next, jitterMs),
    });
    this.#own.set(name, { declaration, revision });
    if (before === null) return;
    const { changed, ...was } = before;
    const what = `the schedule "${name}" is declared anew, with another ${changed.join(", ")}; this process started last, so its declaration counts`;
    logger.info(what, { schedule: name, changed, before: was, now: { service, cron, timeZone } });
  }

  #first({ name, cron, timeZone }: ScheduleDeclaration, after: number): number {
    const next = new Times(cron, timeZone).next(after);
    if (next !== undefined) return next;
    throw errorOf("PH_OPTION_INVALID", `The schedule "${name}" has no time after ${new Date(after).toISOString()}.`);
  }

  /** One pass; returns how long to wait for the next. */
  async pass(): Promise<number> {
    const computed = [...this.#own].filter(([, { declaration }]) => declaration.source !== null);
    const own = Object.fromEntries(computed.map(([name, { revision }]) => [name, revision]));
    const { now, due, waitMs } = await dueSchedules(this.#options.executor, own, schedulesPerLook);
    let wait = Math.min(waitMs ?? lookMs, lookMs);
    let batch: Made[] = [];
    // In another order in each process, so that those who wake in the same moment share the work.
    for (const schedule of shuffled(due)) {
      const made = await this.#try(schedule, now);
      if (typeof made === "number") {
        wait = Math.min(wait, made);
        continue;
      }
      if (batch.length > 0 && bytesOf([...batch, made]) > most.bytes) {
        wait = Math.min(wait, await this.#fire(batch, now));
        batch = [];
      }
      batch.push(made);
    }
    return batch.length === 0 ? wait : Math.min(wait, await this.#fire(batch, now));
  }

  /** What is to be sent, or how long to wait before it is tried again. */
  async #try(schedule: DueSchedule, now: number): Promise<Made | number> {
    const failing = this.#failing.get(schedule.name);
    const heldMs = failing === undefined ? 0 : failing.until - performance.now();
    if (heldMs > 0) return heldMs;
    try {
      return await this.#make(schedule, now);
    } catch (error) {
      return this.#fail(schedule, error);
    }
  }

  /** Sends; returns how long to wait. */
  async #fire(batch: readonly Made[], now: number): Promise<number> {
    const fired = await fireSchedules(this.#options.executor, batch);
    let wait = againMs;
    const channels = new Set<number>();
    for (const [i, made] of batch.entries()) {
      const done = fired[i];
      if (done === undefined || done === null) continue;
      wait = 0;
      this.#failing.delete(made.schedule.name);
      if (done.messages > 0) channels.add(done.channel);
      if (made.passedOver) this.#tellMissed(made.schedule, now, done.messages);
    }
    this.#options.waker.wake(channels);
    return wait;
  }

  async #make(schedule: DueSchedule, now: number): Promise<Made> {
    const { send, upcoming, passedOver } = dueOf(schedule, this.#timesOf(schedule), now);
    const own = schedule.computed ? this.#own.get(schedule.name)?.declaration : undefined;
    const messages: Timed[] = [];
    let bytes = 0;
    for (const at of send.slice(0, most.commands)) {
      const said = await own?.say(new Date(at));
      bytes += said?.json.length ?? schedule.bytes;
      if (messages.length > 0 && bytes > most.bytes) break;
      messages.push(said === undefined ? { at } : { at, json: said.json, key: said.key });
    }
    // What does not fit into this transaction is what comes next.
    const next = send[messages.length] ?? upcoming;
    const due = next + jitterOf(schedule.name, next, schedule.jitterMs);
    return { schedule, messages, upcoming: next, due, passedOver, bytes };
  }

  #timesOf({ name, cron, timeZone }: DueSchedule): Times {
    const known = this.#times.get(name);
    if (known?.cron === cron && known.timeZone === timeZone) return known.times;
    const times = new Times(cron, timeZone);
    this.#times.set(name, { cron, timeZone, times });
    return times;
  }

  /** The time stays due: it is tried again, here and in others, until its command can be made or the schedule is declared anew. */
  async #fail(one: DueSchedule, error: unknown): Promise<number> {
    const { executor, logger } = this.#options;
    const before = this.#failing.get(one.name);
    const ms = before === undefined ? pauseMs.first : Math.min(pauseMs.longest, before.pauseMs * 2);
    this.#failing.set(one.name, { pauseMs: ms, until: performance.now() + ms });
    logger.error(
      `the command of the schedule "${one.name}" cannot be made; it is tried again in ${durationInWords(ms)}`,
      {
        schedule: one.name,
        time: new Date(one.nextAt),
        error,
      },
    );
    const words = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    await noteScheduleFailure(executor, one, words.replaceAll("\0", "").slice(0, limits.errorBytes));
    return ms;
  }

  #tellMissed({ name, missed, nextAt }: DueSchedule, now: number, sent: number): void {
    const facts = { schedule: name, missed, since: new Date(nextAt), lateMs: now - nextAt, sent };
    this.#options.logger.warn(
      `times of the schedule "${name}" were missed, and not all of them are made up for`,
      facts,
    );
  }
}

interface Made extends Firing {
  readonly schedule: DueSchedule;
  readonly passedOver: boolean;
  readonly bytes: number;
}

function bytesOf(batch: readonly Made[]): number {
  return batch.reduce((sum, { bytes }) => sum + bytes, 0);
}

function shuffled<T>(list: readonly T[]): readonly T[] {
  return list
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one);
}
