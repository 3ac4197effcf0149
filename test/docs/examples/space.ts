/** The program of docs/guides/space.md. */
import { type DatabaseInput, days, event, hours, type Logger, policies, posthorn, type } from "posthorn";

export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ orderId: string }>(),
  key: ({ orderId }) => orderId,
});

export async function run(database: DatabaseInput, print: (line: string) => void, logger: Logger): Promise<void> {
  const post = posthorn({
    service: "shop",
    database,
    migrate: "auto",
    logger,
    // What has ended stays for two days, or until the log is larger than 20 GiB.
    retention: { keepMs: days(2), maxBytes: 20 * 1_024 ** 3 },
  });

  // Facts of this topic stay readable for 30 days, whatever the size of the log. Four lanes: fixed for good.
  post.topic("orders", { keepMs: days(30), lanes: 4 });

  post
    .subscription("confirmations", { topic: "orders", ...policies.notify })
    .on(OrderPlaced, ({ orderId }) => print(`confirmed ${orderId}`));

  await post.start();
  await post.publish(OrderPlaced, { orderId: "A1" });
  await post.untilIdle();
  print(`kept for ${days(30) / hours(24)} days`);
  await post.stop();
}
