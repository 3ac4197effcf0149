/** The example of docs/guides/retries.md: telling a partner about orders, whatever the partner answers. */
import {
  command,
  type DatabaseInput,
  hours,
  minutes,
  OpenCircuit,
  policies,
  posthorn,
  Reject,
  RetryLater,
  retry,
  seconds,
  type,
} from "posthorn";

export const TellPartner = command("TellPartner", {
  queue: "partner",
  schema: type<{ url: string; orderId: string }>(),
});

export function open(database: DatabaseInput) {
  const post = posthorn({ service: "shop", database, migrate: "auto" });

  const partner = post.queue("partner", {
    ...policies.webhook,
    // Once more at once, because most trouble is over by then; then with growing waits.
    retry: retry.exponential({ attempts: 16, firstMs: seconds(5), maxMs: hours(6), immediate: 1 }),
    circuitBreaker: { failures: 20, windowMs: minutes(1), openMs: minutes(2) },
  });

  partner.handle(TellPartner, async ({ url, orderId }, { signal, idempotencyKey }) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": idempotencyKey() },
      body: JSON.stringify({ orderId }),
      signal,
    });
    await response.body?.cancel();
    if (response.ok) return;
    if (response.status === 410) throw new Reject("the partner has closed this endpoint");
    if (response.status === 429) throw RetryLater.fromResponse(response);
    if (response.status === 503) throw new OpenCircuit(minutes(10), "the partner is closed for maintenance");
    throw new Error(`The partner answered ${response.status}.`);
  });
  return post;
}
