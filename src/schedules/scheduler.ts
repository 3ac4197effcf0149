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
  fireSchedule,
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
    logger.info(`the schedule "${name}" is declared anew; this process started last, so its declaration counts`, {
      schedule: name,
      before,
      now: { service, cron, timeZone },
    });
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
    // In another order in each process, so that those who wake in the same moment share the work.
    for (const one of shuffled(due)) {
      const failing = this.#failing.get(one.name);
      const heldMs = failing === undefined ? 0 : failing.until - performance.now();
      wait = Math.min(wait, heldMs > 0 ? heldMs : await this.#take(one, now));
    }
    return wait;
  }

  /** Sends what is due of one schedule; returns how long to wait. */
  async #take(one: DueSchedule, now: number): Promise<number> {
    let made: Made;
    try {
      made = await this.#make(one, now);
    } catch (error) {
      return this.#fail(one, error);
    }
    const { commands, upcoming, passedOver } = made;
    const due = upcoming + jitterOf(one.name, upcoming, one.jitterMs);
    const fired = await fireSchedule(this.#options.executor, one, commands, { upcoming, due });
    if (fired === null) return againMs;
    this.#failing.delete(one.name);
    if (fired.messages > 0) this.#options.waker.wake(new Set([fired.channel]));
    if (passedOver) this.#tellMissed(one, now, fired.messages);
    return 0;
  }

  async #make(one: DueSchedule, now: number): Promise<Made> {
    const { send, upcoming, passedOver } = dueOf(one, this.#timesOf(one), now);
    const own = one.computed ? this.#own.get(one.name)?.declaration : undefined;
    const count = one.bytes === 0 ? most.commands : Math.max(1, Math.min(most.commands, most.bytes / one.bytes));
    const commands: Timed[] = [];
    let bytes = 0;
    for (const at of send.slice(0, count)) {
      if (own === undefined) {
        commands.push({ at });
        continue;
      }
      const { json, key } = await own.say(new Date(at));
      bytes += json.length;
      if (commands.length > 0 && bytes > most.bytes) break;
      commands.push({ at, json, key });
    }
    // What does not fit into this transaction is what comes next.
    return { commands, upcoming: send[commands.length] ?? upcoming, passedOver };
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

interface Made {
  readonly commands: readonly Timed[];
  readonly upcoming: number;
  readonly passedOver: boolean;
}

function shuffled<T>(list: readonly T[]): readonly T[] {
  return list
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one);
}
