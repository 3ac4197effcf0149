/** Where orders go: a survey of all regions, asked for by whoever wants one, made when there is time for it. */
import { setTimeout as wait } from "node:timers/promises";
import { type CancelAnswer, type ResultOf, type State, type Status, seconds } from "posthorn";
import { SurveyRegions } from "../contracts.js";
import { type Elsewhere, post, read } from "../post.js";
import type { Customer } from "./accounts.js";
import type { Zone } from "./shipping.js";

/** Customers come first: it leaves the database to them for most of the time. */
const restMs = 200;

type Survey = ResultOf<typeof SurveyRegions>;

/** Handler mode: it changes nothing. Outside of a transaction it holds no connection while it rests, and tells how far it has come. */
export function surveyRegions(zones: ReadonlyMap<string, Zone>) {
  const names = [...new Set([...zones.values()].map(({ region }) => region))];
  return async (_: object, { signal, progress }: Elsewhere): Promise<Survey> => {
    const regions = [];
    for (const [done, region] of names.entries()) {
      progress(done / names.length);
      // When somebody takes the survey back this throws, and nothing more is read.
      await wait(restMs, undefined, { signal });
      regions.push(...(await countRegion(region)));
    }
    regions.sort((a, b) => b.orders - a.orders);
    return { orders: regions.reduce((sum, { orders }) => sum + orders, 0), regions };
  };
}

async function countRegion(region: string): Promise<readonly Survey["regions"][number][]> {
  return read(
    `select region, count(*)::int as orders, sum(cents)::float8 as cents
     from shop.shipment join shop.placed_order on id = order_id where region = $1 group by region`,
    [region],
  );
}

/** The request and the note of who asked, in one commit. A queue that is full refuses it with `BacklogFullError`. */
export async function askForSurvey({ guestId }: Customer): Promise<string> {
  return post.transaction(async ({ tx }) => {
    const { id } = await post.in(tx).send(SurveyRegions, {});
    await tx.query("insert into shop.survey (id, guest_id) values ($1, $2)", [id, guestId]);
    return id;
  });
}

export interface AskedSurvey {
  readonly id: string;
  readonly state: State;
  readonly progress: unknown;
  readonly result: Survey | null;
}

const newest = 6;

/** One's own, the newest first. */
export async function surveysOf({ guestId }: Customer): Promise<readonly AskedSurvey[]> {
  const asked = await read<{ id: string }>(
    "select id from shop.survey where guest_id = $1 order by asked_at desc limit $2",
    [guestId, newest],
  );
  return Promise.all(asked.map(async ({ id }) => told(id, await post.receipt(SurveyRegions, id).status())));
}

/** Waits a moment for the end, so that who asks again and again hears of it at once. Undefined for a survey of somebody else. */
export async function surveyOf(id: string, customer: Customer): Promise<AskedSurvey | undefined> {
  if (!(await isTheirs(id, customer))) return undefined;
  return told(id, await post.receipt(SurveyRegions, id).settled({ withinMs: seconds(1) }));
}

/** Takes it back: one that waits does not run, and one that runs is asked to stop. */
export async function cancelSurvey(id: string, customer: Customer): Promise<CancelAnswer | undefined> {
  return (await isTheirs(id, customer)) ? post.receipt(SurveyRegions, id).cancel() : undefined;
}

async function isTheirs(id: string, { guestId }: Customer): Promise<boolean> {
  return (await read("select from shop.survey where id = $1 and guest_id = $2", [id, guestId])).length > 0;
}

function told(id: string, { state, progress, result }: Status<Survey>): AskedSurvey {
  return { id, state, progress: progress ?? null, result: result ?? null };
}
