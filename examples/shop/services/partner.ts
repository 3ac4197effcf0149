/** The partner's receiver: verifies the signature, keeps what is new, and drops a webhook-id that it knows. */
import { randomBytes } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { z } from "zod";
import type { Endpoint } from "../neighbours.js";
import { post } from "../post.js";
import { gather } from "./gather.js";
import { startService } from "./http.js";

const Payload = z.object({ type: z.string(), data: z.object({ orderId: z.uuid() }) });

interface Received {
  readonly webhookId: string;
  readonly orderId: string;
  readonly type: string;
}

export async function startPartner(): Promise<Endpoint & { close(): Promise<void> }> {
  // Both sides get it here, new at each start. Elsewhere it comes from where secrets are kept.
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  const verifier = new Webhook(secret);
  const service = await startService("/webhooks", async ({ headers, body }) => {
    const payload = verified(verifier, headers, body);
    if (payload === undefined) return { status: 401 };
    await keep({
      webhookId: String(headers["webhook-id"]),
      orderId: payload.data.orderId,
      type: payload.type,
    });
    return { status: 204 };
  });
  return { url: `${service.url}/webhooks`, secret, close: () => service.close() };
}

/** Undefined when the signature is missing, wrong or old, or when what it signs is not a webhook that we know. */
function verified(verifier: Webhook, headers: object, body: string): z.infer<typeof Payload> | undefined {
  try {
    return Payload.parse(verifier.verify(body, { ...headers }));
  } catch {
    return undefined;
  }
}

const keep = gather<Received, true>(async (received) => {
  await post.transaction(({ tx }) =>
    tx.query(
      `insert into outside.webhook (webhook_id, order_id, type, deliveries)
       select "webhookId", min("orderId"::text)::uuid, min(type), count(*)
       from json_to_recordset($1::json) as w ("webhookId" text, "orderId" uuid, type text) group by "webhookId"
       on conflict (webhook_id) do update set deliveries = webhook.deliveries + excluded.deliveries`,
      [JSON.stringify(received)],
    ),
  );
  return received.map(() => true as const);
});
