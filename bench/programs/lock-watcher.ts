/**
 * Looks each few milliseconds who waits for a lock on a table of the log, and for how long already. In a process of its own: one that says or handles
 * messages would look late. Each look is a statement of its own, because an open snapshot would keep segments from being truncated.
 */
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import { now } from "../clock.js";
import { serve, settings } from "./serve.js";

export interface LockWatcherCalls {
  /** The longest wait since the last call, in milliseconds, and how many looks there were. */
  readonly take: (input: undefined) => { readonly longestMs: number; readonly looks: number };
}

const everyMs = 5;
const waits = `select coalesce(max(extract(epoch from clock_timestamp() - l.waitstart)) * 1000, 0)::float8 as ms
  from pg_locks l join pg_class c on c.oid = l.relation
  where not l.granted and c.relname ~ '^(message|claim|settlement|ending|tick)_[1-8]'`;

const { url } = settings<{ readonly url: string }>();
const client = new pg.Client(url);
await client.connect();
let [longestMs, looks] = [0, 0];

async function look(): Promise<never> {
  for (;;) {
    const begun = now();
    const { rows } = await client.query<{ ms: number }>(waits);
    looks += 1;
    const ms = rows[0]?.ms ?? 0;
    // It goes on after the look, until the next one at most.
    if (ms > 0) longestMs = Math.max(longestMs, ms + everyMs);
    await wait(Math.max(1, everyMs - (now() - begun)));
  }
}
look().catch((error) => {
  console.error(error);
  process.exit(1);
});

serve<LockWatcherCalls>({
  take: () => {
    const taken = { longestMs, looks };
    [longestMs, looks] = [0, 0];
    return taken;
  },
});
