/** The programs of docs/guides/verbs.md. */
import type { Post, Sql } from "posthorn";

export async function mendAndRedrive(post: Post<Sql>, group: string): Promise<number> {
  const { done } = await post.operate.redrive({
    list: "dead-letters",
    subscription: "email",
    group, // the fingerprint that `posthorn errors` shows
    by: "ann",
    perSecond: 20,
  });
  return done;
}

export async function throwAway(post: Post<Sql>): Promise<string> {
  await post.operate.pause("email", { by: "ann", reason: "a loop has sent 40,000 mails" });
  const purge = await post.operate.purge("email", {
    by: "ann",
    reason: "sent in a loop",
    confirm: "email", // repeats the name; otherwise nothing is changed
  });
  await post.operate.resume("email", { by: "ann" });
  return `${purge.done} of ${purge.found}, ${purge.state}`;
}

export async function forget(post: Post<Sql>, customer: string): Promise<number> {
  const erased = await post.operate.erase(customer, { by: "ann", reason: "asked for by letter", confirm: customer });
  return erased.done;
}

export async function goOn(post: Post<Sql>): Promise<void> {
  for (const { operation } of await post.operate.audit({ unfinished: true })) await post.operate.continue(operation);
}

export async function renameIntake(post: Post<Sql>): Promise<void> {
  await post.operate.renameIntake("orders-in", "orders-eu", { by: "ann", reason: "there are two shops now" });
}

export async function endIntake(post: Post<Sql>): Promise<void> {
  await post.operate.removeIntake("orders-in", { by: "ann", reason: "comes by webhook now", confirm: "orders-in" });
}
