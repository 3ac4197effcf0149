/** A database with the schema and a table of effects, a producer in this process, workers in others, and an eye on the tables. */
import { Client } from "pg";
import { type Post, posthorn, type Sql } from "posthorn";
import { afterAll } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase, type OwnServer } from "../support/server.js";
import type { Settings } from "./fixtures/contracts.js";

export interface Scene {
  readonly url: string;
  /** Says, and works on nothing. */
  readonly post: Post<Sql>;
  rows<Row = Record<string, unknown>>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
  /** The first column of the first row, as a number. */
  count(sql: string, values?: readonly unknown[]): Promise<number>;
  /** A worker process that has just been started. */
  spawn(settings?: Partial<Settings>): Promise<FixtureProcess>;
  /** A worker process that works already. */
  worker(settings?: Partial<Settings>): Promise<FixtureProcess>;
  /**
   * SIGSTOP to a worker that counts as dead from now on. Its own timeout may be long: only a heartbeat that was under way can put its death off for so long.
   */
  freeze(worker: FixtureProcess): Promise<void>;
  /** SIGKILL to all workers that were started here. */
  stopWorkers(): Promise<void>;
  /** Has a worker come and go, so that the subscriptions exist: one reads what is published after its first worker came. */
  subscribe(): Promise<void>;
  /** Waits until every message has ended for every reader, and nobody holds any. */
  quiet(withinMs?: number): Promise<void>;
}

const effects = `create table effect (
  reader text not null, n int not null, attempt int, pid int, at timestamptz not null default clock_timestamp())`;

const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closing.splice(0)) await close();
});

/** How producers and workers come to the database. */
export interface Way {
  readonly through: (url: string) => string;
  readonly pooler?: "transaction";
  readonly statementTimeoutMs?: number;
}

/** Everything is removed when the test file ends. */
export async function openScene(on?: OwnServer, way?: Way): Promise<Scene> {
  const database = await createDatabase(on === undefined ? {} : { on });
  const eye = new Eye(database.url);
  const url = way === undefined ? database.url : way.through(database.url);
  const { through: _, ...ways } = way ?? { through: undefined };
  const post = posthorn({ service: "till", database: url, migrate: "auto", logger: silentLogger, ...ways });
  await post.migrate();
  await eye.rows(effects);
  const workers: FixtureProcess[] = [];
  const stopWorkers = async () => {
    for (const one of workers) one.kill();
    await Promise.all(workers.map(({ exited }) => exited));
  };
  closing.push(async () => {
    await stopWorkers();
    await post.stop();
    await eye.close();
    if (on === undefined) await database.drop();
  });
  const count: Scene["count"] = async (sql, values) => Number(Object.values((await eye.rows(sql, values))[0] ?? {})[0]);
  const spawn: Scene["spawn"] = async (settings = {}) => {
    const args = [JSON.stringify({ ...ways, url, outsideUrl: database.url, ...settings })];
    const started = await spawnFixture("test/failure/fixtures/worker.ts", { args });
    workers.push(started);
    return started;
  };
  const worker: Scene["worker"] = async (settings) => {
    const started = await spawn(settings);
    await started.line("works", { withinMs: 60_000 });
    return started;
  };
  return {
    url,
    post,
    rows: (sql, values) => eye.rows(sql, values),
    count,
    spawn,
    worker,
    freeze: async (one) => {
      one.kill("SIGSTOP");
      await eye.rows("update posthorn.worker set heartbeat_at = '-infinity' where pid = $1", [one.pid]);
    },
    stopWorkers,
    subscribe: async () => {
      const first = await worker();
      first.say("stop");
      await first.exited;
    },
    quiet: async (withinMs = 60_000) => {
      // Readers are counted one after the other, and what one says may be for another that was counted before: hence twice.
      const twice = async () => (await unended(count)) === 0 && (await unended(count)) === 0;
      await eventually(twice, { withinMs, everyMs: 100 });
    },
  };
}

const unended = (count: Scene["count"]) => count("select sum(backlog + running) from posthorn.backlog");

/** One connection that looks; made anew when its server was restarted. */
class Eye {
  readonly #url: string;
  #client: Promise<Client> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  async rows<Row>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    this.#client ??= this.#connect();
    return (await (await this.#client).query(sql, [...values])).rows;
  }

  async #connect(): Promise<Client> {
    const client = new Client({ connectionString: this.#url });
    const forget = () => {
      this.#client = undefined;
    };
    client.on("error", forget);
    client.on("end", forget);
    await client.connect().catch((error: unknown) => {
      forget();
      throw error;
    });
    return client;
  }

  async close(): Promise<void> {
    await (await this.#client?.catch(() => undefined))?.end().catch(() => undefined);
  }
}

export function upTo(count: number, from = 1): readonly number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}
