/** Instances on one database, stopped together; each test has a queue of its own. */
import { type Post, posthorn, type Sql } from "posthorn";
import type { Home } from "../producer/homes.js";
import { collect, serviceName } from "../producer/stage.js";

export interface Company {
  readonly home: Home;
  readonly warnings: string[];
  make(): Post<Sql>;
  close(): Promise<void>;
}

export async function companyIn(open: () => Promise<Home>): Promise<Company> {
  const home = await open();
  const warnings: string[] = [];
  const posts: Post<Sql>[] = [];
  const make = (): Post<Sql> => {
    const logger = collect(warnings);
    const options = { service: serviceName(), database: home.input, migrate: "auto", logger } as const;
    // A machine that is busy with other tests is no dead worker.
    const post = posthorn({ ...options, workerTimeoutMs: 600_000 }) as Post<Sql>;
    posts.push(post);
    return post;
  };
  // A folder is held by one instance at a time.
  const first = make();
  await first.migrate();
  await first.stop();
  const close = async () => {
    await Promise.all(posts.map((post) => post.stop({ graceMs: 0 })));
    await home.close();
  };
  return { home, warnings, make, close };
}

let queues = 0;
export function freshName(what: string): string {
  queues += 1;
  return `${what}-${queues}`;
}

/** A promise and the function that keeps it. */
export function gate<T = void>(): { readonly opened: Promise<T>; readonly open: (value: T) => void } {
  let open: (value: T) => void = () => undefined;
  const opened = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
