/** What arrived at the mail server, kept in a table of its own: a mail that was taken survives the process. */
import { post } from "./post.js";

export interface Mail {
  readonly messageId: string;
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  /** The run of the handler that delivered it. */
  readonly attempt: number;
}

export type KeptMail = Mail & {
  readonly receivedAt: string;
  /** How often it was delivered. More than once after a crash; it is kept once. */
  readonly deliveries: number;
};

const newest = 20;

export async function createMailbox(): Promise<void> {
  await post.transaction(async ({ tx }) => {
    await tx.query("select pg_advisory_xact_lock(hashtext('mailbox'))");
    await tx.query("create schema if not exists mailbox");
    await tx.query(`create table if not exists mailbox.mail (
      n bigint generated always as identity primary key, message_id text not null unique, recipient text not null,
      subject text not null, body text not null, attempt int not null, deliveries int not null default 1,
      received_at timestamptz not null default clock_timestamp())`);
  });
}

export async function keepMail(mail: Mail): Promise<void> {
  await post.transaction(({ tx }) =>
    tx.query(
      `insert into mailbox.mail (message_id, recipient, subject, body, attempt) values ($1, $2, $3, $4, $5)
       on conflict (message_id) do update set deliveries = mail.deliveries + 1`,
      [mail.messageId, mail.to, mail.subject, mail.text, mail.attempt],
    ),
  );
}

export async function mails(): Promise<readonly KeptMail[]> {
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<KeptMail>(
      `select message_id as "messageId", recipient as "to", subject, body as text, attempt, deliveries,
         to_json(received_at) #>> '{}' as "receivedAt"
       from mailbox.mail order by n desc limit $1`,
      [newest],
    ),
  );
  return rows;
}
