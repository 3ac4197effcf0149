/**
 * A payment service: `POST /charges` with an Idempotency-Key. It charges once for each key and answers a repetition from its records,
 * as the providers do whose money is real.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { seconds } from "posthorn";
import { z } from "zod";
import { post } from "../post.js";
import { gather } from "./gather.js";
import { type Answered, type Asked, parseJson, type Service, startService } from "./http.js";

export interface PaymentTroubles {
  /** A charge takes longer than the shop's patience. */
  slow(): boolean;
  /** The charge is made, and the answer never arrives. */
  losesAnswers(): boolean;
}

const slowMs = seconds(3);

const Request = z.object({ orderId: z.uuid(), cents: z.int().positive() });
const Key = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);

interface Charge {
  readonly key: string;
  readonly orderId: string;
  readonly cents: number;
}

type Recorded = Charge & { readonly chargeId: string; readonly requests: number };

export function startPaymentService(troubles: PaymentTroubles): Promise<Service> {
  const underWay = new Set<string>();
  return startService("/charges", async (asked): Promise<Answered> => {
    const wanted = read(asked);
    if (wanted === undefined) return refused(400, "An Idempotency-Key, an orderId and cents are needed.");
    // What is asked for again before it is done is not done a second time beside the first.
    if (underWay.has(wanted.key)) return refused(409, "This charge is under way.");
    underWay.add(wanted.key);
    try {
      const { requests, chargeId, ...charge } = await record(wanted);
      if (charge.orderId !== wanted.orderId || charge.cents !== wanted.cents) {
        return refused(422, "This Idempotency-Key was used for another charge.");
      }
      const first = requests === 1;
      if (first && troubles.slow()) await wait(slowMs);
      if (first && troubles.losesAnswers()) return undefined;
      return { status: first ? 201 : 200, json: { chargeId, cents: charge.cents } };
    } finally {
      underWay.delete(wanted.key);
    }
  });
}

function read({ headers, body }: Asked): Charge | undefined {
  const key = Key.safeParse(headers["idempotency-key"]);
  const request = Request.safeParse(parseJson(body));
  return key.success && request.success ? { key: key.data, ...request.data } : undefined;
}

function refused(status: number, detail: string): Answered {
  return { status, json: { status, detail } };
}

/** Answers when the charge is committed: from then on it is known, whatever happens to the answer. Keys in one batch differ. */
const record = gather<Charge, Recorded>(async (charges) => {
  const rows = await post.transaction(async ({ tx }) => {
    const wanted = charges.map((charge) => ({ ...charge, chargeId: `ch_${randomUUID()}` }));
    return tx.query<Recorded>(
      `insert into outside.charge (id, idempotency_key, order_id, cents, requests)
       select "chargeId", key, "orderId", cents, 1
       from json_to_recordset($1::json) as c ("chargeId" text, key text, "orderId" uuid, cents int)
       on conflict (idempotency_key) do update set requests = charge.requests + 1
       returning id as "chargeId", idempotency_key as key, order_id as "orderId", cents, requests`,
      [JSON.stringify(wanted)],
    );
  });
  const byKey = new Map(rows.rows.map((row) => [row.key, row]));
  return charges.flatMap(({ key }) => byKey.get(key) ?? []);
});
