/** The code of docs/guides/time.md; test/docs/guides.test.ts runs it. */
import { command, days, hours, minutes, type Post, type Sql, type } from "posthorn";

export const RemindCustomer = command("RemindCustomer", { queue: "reminders", schema: type<{ orderId: string }>() });
export const SendCode = command("SendCode", { queue: "codes", schema: type<{ to: string; code: string }>() });
export const RenderReport = command("RenderReport", { queue: "reports", schema: type<{ month: string }>() });

export async function remindLater(post: Post<Sql>, orderId: string) {
  const receipt = await post.send(RemindCustomer, { orderId }, { delayMs: days(2) });
  const { state, dueAt } = await receipt.status(); // "scheduled", and when
  return { receipt, state, dueAt };
}

export async function remindAt(post: Post<Sql>, orderId: string, at: Date) {
  return post.transaction(async ({ tx, send }) => {
    await tx.query("insert into orders (id) values ($1)", [orderId]);
    return send(RemindCustomer, { orderId }, { runAt: at, expiresInMs: days(30) });
  });
}

export async function sendCode(post: Post<Sql>, to: string, code: string) {
  return post.send(SendCode, { to, code }, { expiresInMs: minutes(5), priority: 2 });
}

export async function renderAll(post: Post<Sql>, months: readonly string[]) {
  const payloads = months.map((month) => ({ month }));
  return post.sendMany(RenderReport, payloads, { priority: -2, delayMs: hours(1) });
}
