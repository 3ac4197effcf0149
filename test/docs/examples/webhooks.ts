/** The programs of docs/guides/webhooks.md. */
import { createServer } from "node:http";
import { type Broker, minutes, type Post, PosthornError, policies, type Sql, seconds } from "posthorn";
import { listener } from "posthorn/http";
import { newWebhookKeyPair, newWebhookSecret, verifyWebhook, webhook, webhookIntake } from "posthorn/webhooks";

export interface Endpoint {
  readonly url: string;
  readonly secrets: readonly string[];
}

export function partner({ url, secrets }: Endpoint) {
  return webhook({
    url, // https://partner.example/hooks/7f3a…
    secrets, // whsec_… or whsk_…, the newest first
    connections: 10, // posted at once
    timeoutMs: 15_000,
  });
}

export function orders(post: Post<Sql>, to: Broker) {
  post.relay("orders-to-partner", {
    ...policies.relay,
    from: { topic: "orders" },
    to,
    visibilityTimeoutMs: minutes(1),
    sendTimeoutMs: seconds(30), // twice timeoutMs
  });
}

export function patient(post: Post<Sql>, to: Broker) {
  post.relay("orders-to-patient-partner", {
    ...policies.relay,
    retry: policies.webhook.retry, // or retry.exponential({ attempts: 20, firstMs: seconds(5), maxMs: hours(6) })
    from: { topic: "orders" },
    to,
  });
}

export function warehouse(port: number, secret: string) {
  return webhook({
    url: `http://127.0.0.1:${port}/events`,
    secrets: [secret],
    allowPrivate: ["127.0.0.1"], // as it stands in the url
  });
}

export function inbound(secrets: readonly string[]) {
  const hooks = webhookIntake({ secrets, path: "/hooks/partner" });
  const server = createServer(listener(hooks.fetch));
  return { hooks, server };
}

export async function byHand(request: Request, secret: string, seen: (id: string) => Promise<boolean>) {
  const body = await request.text(); // as it came: parsed and written again it is another text
  try {
    const { id } = verifyWebhook({ headers: request.headers, body }, { secrets: [secret] });
    if (await seen(id)) return new Response(null, { status: 204 });
  } catch (error) {
    if (error instanceof PosthornError && error.code === "PH_WEBHOOK_UNVERIFIED") {
      return new Response(null, { status: 401 });
    }
    throw error;
  }
  // Here it is new, and JSON.parse(body) is what the sender said.
  return new Response(null, { status: 204 });
}

export function keys() {
  const shared = newWebhookSecret(); // whsec_…: for both sides
  const { secretKey, publicKey } = newWebhookKeyPair(); // whsk_… for the sender, whpk_… for everybody who verifies
  return { shared, secretKey, publicKey };
}
