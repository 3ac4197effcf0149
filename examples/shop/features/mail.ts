/** Sending mail. */
import { createTransport, type Transporter } from "nodemailer";
import { type OutputOf, seconds } from "posthorn";
import type { SendEmail } from "../contracts.js";
import type { Elsewhere } from "../post.js";

export interface Mailer extends Pick<Transporter, "sendMail"> {
  close(): void;
}

const from = "Post Shop <orders@shop.example>";

/** Keeps some connections open: ten thousand mails are not ten thousand greetings. */
export function openMailer(smtp: { readonly host: string; readonly port: number }): Mailer {
  const patience = { connectionTimeout: seconds(5), greetingTimeout: seconds(5), socketTimeout: seconds(10) };
  return createTransport({ ...smtp, ...patience, pool: true, maxConnections: 10, maxMessages: 1_000, ignoreTLS: true });
}

/** Handler mode: a crash after the delivery repeats it under the same Message-ID, by which the other side knows it. */
export function sendEmail(mailer: Mailer) {
  return async (mail: OutputOf<typeof SendEmail>, { attempt, idempotencyKey }: Elsewhere): Promise<void> => {
    const { to, subject, text, about } = mail;
    await mailer.sendMail({
      from,
      to,
      subject,
      text,
      messageId: `<${idempotencyKey()}@shop.example>`,
      headers: { "X-About": about, "X-Attempt": String(attempt) },
    });
  };
}
