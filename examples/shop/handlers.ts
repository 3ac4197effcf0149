/** What is done. Only a process that works calls this. */

import { createTransport } from "nodemailer";
import { seconds } from "posthorn";
import { OrderPlaced, PriceOf, SendEmail } from "./contracts.js";
import { euros } from "./money.js";
import { noteMessage, UnknownArticle } from "./orders.js";
import { confirmations, email, post } from "./post.js";

export function addHandlers(smtp: { readonly host: string; readonly port: number }): void {
  const patience = { connectionTimeout: seconds(5), greetingTimeout: seconds(5), socketTimeout: seconds(10) };
  const mailer = createTransport({ ...smtp, ...patience, ignoreTLS: true });

  post.answer(PriceOf, async ({ sku }, { tx }) => {
    const { rows } = await tx.query<{ cents: number }>("select cents from shop.article where sku = $1", [sku]);
    const [article] = rows;
    if (article === undefined) throw new UnknownArticle(sku);
    return article;
  });

  // One commit for all of it: the command, the two notes, and that the event is handled.
  confirmations.on(OrderPlaced, async (order, { tx, message }) => {
    const { orderId, article, cents, email: to } = order;
    const text = `Thank you for your order.\n\n  ${article}, ${euros(cents)}\n\nOrder ${orderId}\n`;
    const receipt = await post.in(tx).send(SendEmail, { to, subject: `Your order: ${article}`, text });
    await noteMessage(tx, orderId, { id: message.id, name: message.name, saidAt: message.publishedAt });
    await noteMessage(tx, orderId, { id: receipt.id, name: SendEmail.name, saidAt: new Date() });
  });

  // A crash between the delivery and the settlement repeats the delivery: with the same Message-ID, so it can be noticed.
  email.handle(SendEmail, async ({ to, subject, text }, { attempt, idempotencyKey }) => {
    await mailer.sendMail({
      from: "Post Shop <orders@shop.example>",
      to,
      subject,
      text,
      messageId: `<${idempotencyKey()}@shop.example>`,
      headers: { "X-Attempt": String(attempt) },
    });
  });
}
