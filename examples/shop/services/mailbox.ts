/** What arrived at the mail server. A Message-ID that is known is counted and dropped, as many mail servers can be told to (RFC 7352). */
import { post, read } from "../post.js";
import { gather } from "./gather.js";

export interface Mail {
  readonly messageId: string;
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  /** The order, user or report that it is about. */
  readonly about: string | null;
  /** The run of the handler that delivered it. */
  readonly attempt: number;
  readonly csv: readonly string[];
}

export type KeptMail = Omit<Mail, "csv"> & {
  readonly receivedAt: string;
  /** How often it was delivered. More than once after a crash; it is kept once. */
  readonly deliveries: number;
};

/** What a mail is filed as besides: accounting books the lines of its reports in the transaction that keeps the mail. */
export interface Filed {
  readonly reportId: string;
  readonly orderId: string;
  readonly cents: number;
}

/** Keeps mails; returns when they are committed. `file` reads what a mail that was not known brings. */
export function mailKeeper(file: (mail: Mail) => readonly Filed[]): (mail: Mail) => Promise<true> {
  return gather(async (mails) => {
    await post.transaction(async ({ tx }) => {
      const { rows } = await tx.query<{ messageId: string; fresh: boolean }>(
        `insert into outside.mail (message_id, recipient, subject, body, about, attempt, deliveries)
         select "messageId", min("to"), min(subject), min(text), min(about), min(attempt), count(*)
         from json_to_recordset($1::json) as m ("messageId" text, "to" text, subject text, text text, about text, attempt int)
         group by "messageId"
         on conflict (message_id) do update set deliveries = mail.deliveries + excluded.deliveries
         returning message_id as "messageId", xmax = 0 as fresh`,
        [JSON.stringify(mails)],
      );
      const fresh = new Set(rows.filter((row) => row.fresh).map(({ messageId }) => messageId));
      const filed = mails.filter(({ messageId }) => fresh.delete(messageId)).flatMap(file);
      if (filed.length === 0) return;
      await tx.query(
        `insert into outside.accounting_line (report_id, order_id, cents)
         select "reportId", "orderId", cents from json_to_recordset($1::json) as l ("reportId" uuid, "orderId" uuid, cents int)`,
        [JSON.stringify(filed)],
      );
    });
    return mails.map(() => true as const);
  });
}

const newest = 12;

export async function mails(): Promise<readonly KeptMail[]> {
  return read<KeptMail>(
    `select message_id as "messageId", recipient as "to", subject, body as text, about, attempt, deliveries,
       to_json(received_at) #>> '{}' as "receivedAt"
     from outside.mail order by n desc limit $1`,
    [newest],
  );
}

/** All mails about an order. */
export async function mailsAbout(id: string): Promise<readonly KeptMail[]> {
  return read<KeptMail>(
    `select message_id as "messageId", recipient as "to", subject, body as text, about, attempt, deliveries,
       to_json(received_at) #>> '{}' as "receivedAt"
     from outside.mail where about = $1 order by n`,
    [id],
  );
}
