/**
 * An instance that works, with a queue for each idempotency mode, a topic with two readers, and a queue that nobody works on.
 *
 * Tests share it and stay apart by a name of their own, `run`, in every payload: handlers are looked up by it, and
 * what reached a handler or the log is counted by it.
 */
import { randomBytes } from "node:crypto";
import {
  type Context,
  command,
  event,
  type Logger,
  type Post,
  posthorn,
  query,
  retry,
  type Schema,
  type Sql,
} from "posthorn";
import { z } from "zod";
import { eventually } from "../support/eventually.js";
import type { Home, HomeKind } from "./homes.js";

/** A schema that is nothing but its validate function. */
export function schemaOf<I, O = I>(validate: (value: unknown) => unknown): Schema<I, O> {
  return { "~standard": { version: 1, vendor: "test", validate: validate as Schema<I, O>["~standard"]["validate"] } };
}

const payload = z.object({ run: z.string(), n: z.number().optional() });
type Payload = z.input<typeof payload>;

export const DoEffect = command("DoEffect", { queue: "effects", schema: payload });
export const DoCall = command("DoCall", { queue: "calls", schema: payload });
export const DoOnce = command("DoOnce", { queue: "once", schema: payload });
export const PileUp = command("PileUp", { queue: "pile", schema: payload });
export const PileByKey = command("PileByKey", { queue: "pile", schema: payload, key: ({ n }) => `key-${n}` });
/** Fits when it is said and no longer when it arrives, for the runs in `spoiled`. */
export const DoSpoil = command("DoSpoil", { queue: "calls", schema: schemaOf<Payload>((value) => spoil(value)) });
/** Checked by a promise; refused where `n` is negative. */
export const DoLate = command("DoLate", {
  queue: "calls",
  schema: schemaOf<Payload>(async (value) => {
    await new Promise((resolve) => setImmediate(resolve));
    return (value as Payload).n === -1 ? { issues: [{ message: "n is negative", path: ["n"] }] } : { value };
  }),
});
/** The handler and the key get what the schema makes of the input. */
export const DoShape = command("DoShape", {
  queue: "calls",
  schema: z.object({
    run: z.string(),
    at: z.iso.datetime().transform((text) => new Date(text)),
    n: z.number().default(7),
  }),
  key: ({ at, n }) => `${at.getUTCFullYear()}-${n}`,
});
export const ThingHappened = event("ThingHappened", { topic: "things", schema: payload, key: ({ run }) => run });
export const SumOf = query("SumOf", {
  request: z.object({ run: z.string(), text: z.string().transform(Number).optional() }),
  response: z.object({ sum: z.number() }),
  deadlineMs: 60_000,
});

export const spoiled = new Set<string>();
function spoil(value: unknown): unknown {
  return spoiled.has((value as Payload).run) ? { issues: [{ message: "has gone bad", path: ["run"] }] } : { value };
}

/** The context of all modes: `tx` is there in transaction mode. */
export type Given = Context<"at-most-once", unknown> & { readonly tx?: Sql };
export interface Delivery {
  readonly receiver: string;
  readonly payload: unknown;
  readonly context: Given;
}
type Handler = (delivery: Delivery) => unknown;
export type Answer = (request: { run: string; text?: number }, context: { tx: Sql; signal: AbortSignal }) => unknown;

export const decisions = {
  retry: retry.fixed({ attempts: 3, delayMs: 1 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 60_000 },
  // An alert is a warning: on a slow machine tests may take longer than a minute, in which nobody works on a queue of theirs.
  alerts: { oldestAgeMs: 3_600_000, backlog: 1_000_000, deadLetters: 1_000_000, noWorkerMs: 3_600_000 },
} as const;

export interface Stage {
  readonly home: Home;
  readonly post: Post<Sql>;
  /** What the instance warned about. */
  readonly warnings: string[];
  /** A fresh name for a test, with its handler and answer. */
  run(handler?: Handler, answer?: Answer): string;
  /** What reached handlers of this run, in order. */
  delivered(run: string): readonly Delivery[];
  /** Waits until so many deliveries of this run have begun. */
  begun(run: string, count: number): Promise<readonly Delivery[]>;
  /** Messages of this run in the log, committed. */
  stored(run: string): Promise<number>;
  rows(sql: string, params?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

let instances = 0;
/** Each instance is a service of its own; on one database a second of the same name is refused. */
export function serviceName(): string {
  instances += 1;
  return `service-${instances}`;
}

export function collect(into: string[]): Logger {
  const take = (message: string, facts?: object) => void into.push(`${message} ${JSON.stringify(facts, errorsToo)}`);
  return { info: () => undefined, warn: take, error: take };
}
const errorsToo = (_key: string, value: unknown) => (value instanceof Error ? String(value) : value);

const stages = new Map<HomeKind, Promise<Stage>>();

/** The stage of a kind of database, opened when it is first asked for. */
export function stageOn(kind: HomeKind): Promise<Stage> {
  const stage = stages.get(kind) ?? openStage(kind);
  stages.set(kind, stage);
  return stage;
}

export async function closeStages(): Promise<void> {
  await Promise.all([...stages.values()].map(async (opened) => (await opened).close()));
}

async function openStage(kind: HomeKind): Promise<Stage> {
  const home = await kind.open();
  const warnings: string[] = [];
  const post = posthorn({
    service: serviceName(),
    database: home.input,
    migrate: "auto",
    logger: collect(warnings),
    // A machine that is busy with other tests is no dead worker.
    workerTimeoutMs: 600_000,
  }) as Post<Sql>;
  const cast = declare(post);
  await post.start();
  await post.transaction(({ tx }) => tx.query("create table note (run text not null, n int, primary key (run, n))"));
  const inside = (sql: string, params: readonly unknown[] = []) =>
    post.transaction(async ({ tx }) => (await tx.query(sql, params)).rows);
  const rows = home.rows ?? inside;
  return {
    home,
    post,
    warnings,
    rows,
    run: (handler, answer) => {
      const run = randomBytes(6).toString("hex");
      if (handler !== undefined) cast.handlers.set(run, handler);
      if (answer !== undefined) cast.answers.set(run, answer);
      return run;
    },
    delivered: (run) => cast.deliveries.filter(({ payload }) => (payload as { run: string }).run === run),
    begun: (run, count) =>
      eventually(() => {
        const found = cast.deliveries.filter(({ payload }) => (payload as { run: string }).run === run);
        return found.length >= count ? found : undefined;
      }),
    stored: async (run) => {
      const [row] = await rows("select count(*)::int as n from posthorn.message_1 where payload ->> 'run' = $1", [run]);
      return Number(row?.n);
    },
    close: async () => {
      await post.stop({ graceMs: 0 });
      await home.close();
    },
  };
}

/** Everybody who receives: handlers and answers by run, and what reached them. */
function declare(post: Post<Sql>) {
  const handlers = new Map<string, Handler>();
  const answers = new Map<string, Answer>();
  const deliveries: Delivery[] = [];
  const deliver = (receiver: string) => (payload: { run: string }, context: Given) => {
    const delivery = { receiver, payload, context };
    deliveries.push(delivery);
    return handlers.get(payload.run)?.(delivery) as undefined;
  };
  post.queue("effects", { ...decisions, idempotency: "transaction" }).handle(DoEffect, deliver("effects"));
  const calls = post.queue("calls", decisions).handle(DoCall, deliver("calls"));
  calls.handle(DoSpoil, deliver("calls")).handle(DoLate, deliver("calls")).handle(DoShape, deliver("calls"));
  post.queue("once", { ...decisions, idempotency: "at-most-once", retry: retry.none }).handle(DoOnce, deliver("once"));
  post.subscription("alpha", { topic: "things", ...decisions }).on(ThingHappened, deliver("alpha"));
  const books = { topic: "things", ...decisions, idempotency: "transaction" } as const;
  post.subscription("books", books).on(ThingHappened, deliver("books"));
  post.answer(SumOf, (request, context) => answers.get(request.run)?.(request as never, context) as never);
  return { handlers, answers, deliveries };
}
