/** An instance whose queues tell when handlers begin, for tests about time and dedupe; on a server and on PGlite. */
import { command, type Post, posthorn, retry, type Sql, type } from "../../src/index.js";
import type { SayBuffered } from "../../src/producer/say.js";
import { decisions as common } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

/** Windows of a minute have to be long enough for three runs. */
const decisions = { ...common, visibilityTimeoutMs: 10_000 } as const;

export interface Payload {
  readonly run: string;
  readonly n?: number;
}
export const Act = command("DoAct", { queue: "acts", schema: type<Payload>() });
export const Effect = command("DoTimedEffect", { queue: "timed-effects", schema: type<Payload>() });
export const Once = command("DoTimedOnce", { queue: "timed-once", schema: type<Payload>() });
/** Tried again after an hour. */
export const Patient = command("DoPatiently", { queue: "patient", schema: type<Payload>() });
/** Handled one at a time, so that order shows. */
export const Step = command("DoStep", { queue: "steps", schema: type<Payload>() });

export interface Begun {
  readonly run: string;
  readonly n: number | undefined;
  readonly at: number;
  readonly attempt: number;
}
type Handler = (begun: Begun, tx: Sql | undefined, send: SayBuffered["send"]) => unknown;

export interface Timed {
  readonly post: Post<Sql>;
  /** The URL of the server; undefined on PGlite. */
  readonly url: string | undefined;
  readonly logged: string[];
  rows(sql: string, params?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** A fresh name for a test, with what its handler does. */
  run(handler?: Handler): string;
  begun(run: string): readonly Begun[];
  begins(run: string, count: number): Promise<readonly Begun[]>;
  close(): Promise<void>;
}

interface Given {
  readonly attempt: number;
  readonly tx?: Sql;
  readonly send: SayBuffered["send"];
}

let instances = 0;

export async function openTimed(kind: "server" | "pglite", works = true): Promise<Timed> {
  const home = kind === "server" ? await createDatabase() : undefined;
  const pglite = home === undefined ? await createPglite() : undefined;
  const logged: string[] = [];
  const log = (message: string) => void logged.push(message);
  instances += 1;
  const options = {
    service: `timed-${instances}`,
    migrate: "auto",
    logger: { info: log, warn: log, error: log },
  } as const;
  const post = posthorn({ ...options, database: home?.url ?? pglite ?? "" }) as Post<Sql>;
  const all: Begun[] = [];
  const handlers = new Map<string, Handler>();
  const handle = async ({ run, n }: Payload, { attempt, tx, send }: Given) => {
    const begun = { run, n, at: Date.now(), attempt };
    all.push(begun);
    await handlers.get(run)?.(begun, tx, send);
  };
  post.queue("acts", decisions).handle(Act, handle);
  post.queue("timed-effects", { ...decisions, idempotency: "transaction" }).handle(Effect, handle);
  const once = { ...decisions, idempotency: "at-most-once", retry: retry.none } as const;
  post.queue("timed-once", once).handle(Once, handle);
  post.queue("steps", { ...decisions, concurrency: 1 }).handle(Step, handle);
  post
    .queue("patient", { ...decisions, retry: retry.fixed({ attempts: 3, delayMs: 3_600_000 }) })
    .handle(Patient, handle);
  if (works) await post.start();
  else await post.migrate();
  const begun = (run: string) => all.filter((one) => one.run === run);
  return {
    post,
    url: home?.url,
    logged,
    rows: (sql, params = []) =>
      post.transaction(async ({ tx }) => (await tx.query(sql, [...params])).rows as Record<string, unknown>[]),
    run(handler) {
      const run = `run-${kind}-${handlers.size}`;
      handlers.set(run, handler ?? (() => undefined));
      return run;
    },
    begun,
    async begins(run, count) {
      await eventually(
        () => begun(run).length >= count || Promise.reject(new Error(`${begun(run).length} of ${count}`)),
      );
      return begun(run);
    },
    async close() {
      await post.stop();
      await pglite?.close();
      await home?.drop();
    },
  };
}
