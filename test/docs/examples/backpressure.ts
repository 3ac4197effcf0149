/** The program of docs/guides/backpressure.md. */
import {
  BacklogFullError,
  command,
  type DatabaseInput,
  type Logger,
  policies,
  posthorn,
  seconds,
  type,
} from "posthorn";

export const SendEmail = command("SendEmail", {
  queue: "email",
  schema: type<{ to: string; customer: string }>(),
  key: ({ customer }) => customer,
});

export async function run(database: DatabaseInput, print: (line: string) => void, logger: Logger): Promise<void> {
  const post = posthorn({ service: "shop", database, migrate: "auto", logger });

  post
    .queue("email", {
      ...policies.email,
      // What the mail server allows, for all processes together.
      rateLimit: { messages: 500, perMs: seconds(1) },
      fleetConcurrency: 40,
      // One customer's newsletter must not stop the others' receipts.
      keyRateLimit: { messages: 50, perMs: seconds(1) },
      keyConcurrency: 5,
      backlogLimit: { messages: 1_000, whenFull: "reject" },
    })
    .handle(SendEmail, ({ to }) => print(`to ${to}`));

  await post.start();
  try {
    await post.send(SendEmail, { to: "ada@example.org", customer: "ada" });
  } catch (error) {
    if (!(error instanceof BacklogFullError)) throw error;
    print(`too busy, try again in ${error.facts.retryAfterMs} ms`); // HTTP: 429 with Retry-After
  }
  await post.untilIdle();
  await post.stop();
}
