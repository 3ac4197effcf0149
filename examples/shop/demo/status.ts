/** What the page shows of all orders together. Counted for everybody at once, and seldom enough to leave the database to the work. */
import { describePolicy, type Idempotency, type Queue, type Sql } from "posthorn";
import type { Figure } from "../features/figures.js";
import { figures } from "../features/figures.js";
import { type Report, reports } from "../features/report.js";
import { type Shelf, shelves } from "../features/warehouse.js";
import { relays } from "../neighbours.js";
import * as queues from "../post.js";
import { post, read } from "../post.js";
import { type Audit, audit } from "./audit.js";
import type { Troubles } from "./troubles.js";

/** So little of the time is spent on counting: one part of this many. */
const share = 8;
const leastMs = 300;

/** Shares the result of `look` among all who ask, and rests after it in proportion to what it took. */
export function shared<T>(look: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | undefined;
  let staleAt = 0;
  return () => {
    if (last !== undefined && performance.now() < staleAt) return last;
    const began = performance.now();
    staleAt = Number.POSITIVE_INFINITY;
    const looking = look().finally(() => {
      const now = performance.now();
      staleAt = now + Math.max(leastMs, (now - began) * share);
    });
    // A failure is nobody's for long: the next one looks again.
    looking.catch(() => {
      if (last === looking) last = undefined;
    });
    last = looking;
    return looking;
  };
}

interface Life {
  readonly life: number;
  readonly pid: number;
  readonly beganAt: string;
}

interface Import {
  readonly id: string;
  readonly total: number;
  readonly placed: number;
}

export interface Status extends Audit {
  /** When the count began: what happened later may not be in it. */
  readonly countedAt: string;
  readonly life: Life;
  readonly imports: readonly Import[];
  readonly figures: readonly Figure[];
  readonly reports: readonly Report[];
  readonly shelves: readonly Shelf[];
}

/** This process begins a life; how many there were before says how often it was killed or restarted. */
export async function beginLife(): Promise<Life> {
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<Life>(
      // Counted, not numbered: a sequence skips some numbers when the server crashes.
      `insert into shop.life (pid) values ($1)
       returning (select count(*)::int + 1 from shop.life) as life, pid, to_json(began_at) #>> '{}' as "beganAt"`,
      [process.pid],
    ),
  );
  const [life] = rows;
  if (life === undefined) throw new Error("The life was not written.");
  return life;
}

export function statusReader(life: Life, troubles: Troubles): () => Promise<Status & { troubles: Troubles }> {
  const counted = shared(async (): Promise<Status> => {
    const countedAt = new Date().toISOString();
    const audited = await audit();
    const imports = await read<Import>("select id, total, placed from shop.import order by began_at desc limit 3");
    const books = { figures: await figures(), reports: await reports(), shelves: await shelves() };
    return { countedAt, life, ...audited, imports, ...books };
  });
  // The switches are shown as they are, not as they were at the last count.
  return async () => ({ ...(await counted()), troubles });
}

/** The decisions of each queue and subscription, read back in words. */
export function policies(): Readonly<Record<string, Told>> {
  const all = [
    queues.imports,
    queues.warehouse,
    queues.surveys,
    queues.confirmations,
    queues.email,
    queues.searchIndex,
    queues.salesFigures,
    queues.shipping,
    queues.payments,
    queues.ledger,
    queues.reports,
    queues.welcome,
    queues.tracking,
    ...relays,
  ];
  return Object.fromEntries(
    all.map(({ name, policy }) => {
      return [name, { idempotency: policy.idempotency, limit: limitOf(policy), words: describePolicy(policy) }];
    }),
  );
}

interface Told {
  readonly idempotency: string;
  readonly limit: string | null;
  readonly words: string;
}

/** What holds its messages back when nothing is wrong, in few words. */
function limitOf({ ordering, rateLimit, backlogLimit }: Queue<string, Idempotency, Sql>["policy"]): string | null {
  if (ordering !== "none") return `in order per ${ordering.per}`;
  if (rateLimit !== undefined) return `at most ${rateLimit.messages} in ${rateLimit.perMs / 1000} s`;
  return backlogLimit === undefined ? null : `refuses more while ${backlogLimit.messages} wait`;
}
