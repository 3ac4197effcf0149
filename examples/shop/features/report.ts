/** Bookkeeping: a line for each payment, and reports of them that accounting gets as CSV. */
import { randomUUID } from "node:crypto";
import { stringify } from "csv-stringify/sync";
import type { OutputOf } from "posthorn";
import { DeliverReport, PaymentCaptured } from "../contracts.js";
import { type Elsewhere, type InTransaction, post, read } from "../post.js";
import { noteMessages } from "../tables.js";
import type { Mailer } from "./mail.js";

export const accounting = "accounting@shop.example";

/** Transaction mode: a payment that is booked twice would be money that is not there. */
export async function bookPayment(payment: OutputOf<typeof PaymentCaptured>, context: InTransaction): Promise<void> {
  const { tx, message } = context;
  const { orderId, chargeId, cents } = payment;
  await tx.query("insert into shop.ledger_line (order_id, charge_id, cents) values ($1, $2, $3)", [
    orderId,
    chargeId,
    cents,
  ]);
  const saidAt = message.publishedAt;
  await noteMessages(tx, PaymentCaptured.name, [{ orderId, messageId: message.id, saidAt }]);
}

/** A report has at most so many lines. */
const mostLines = 5_000;

/**
 * Puts all lines that are in no report into one, and asks for its delivery, in one commit. Undefined when there are none.
 * Whoever calls it at the same time gets other lines or none, so no line is in two reports.
 */
export async function closeBooks(): Promise<string | undefined> {
  return post.transaction(async ({ tx, send }) => {
    const reportId = randomUUID();
    const { rows } = await tx.query<{ lines: number; cents: number }>(
      `with closed as (
         update shop.ledger_line set report_id = $1 where n in (
           select n from shop.ledger_line where report_id is null order by n limit $2 for update skip locked)
         returning cents)
       insert into shop.report (id, lines, cents) select $1, count(*), sum(cents) from closed having count(*) > 0 returning lines`,
      [reportId, mostLines],
    );
    if (rows.length === 0) return undefined;
    send(DeliverReport, { reportId });
    return reportId;
  });
}

/** The rows decide what is reported, so a run that is repeated finds nothing, and is harmless. */
export async function onCloseBooks(): Promise<void> {
  await closeBooks();
}

interface Line {
  readonly order: string;
  readonly charge: string;
  readonly cents: number;
}

/** Handler mode: a report that comes twice has the same Message-ID and the same lines, and accounting books it once. */
export function deliverReport(mailer: Mailer) {
  return async ({ reportId }: { reportId: string }, { attempt, idempotencyKey }: Elsewhere): Promise<void> => {
    const lines = await read<Line>(
      `select order_id as "order", charge_id as charge, cents from shop.ledger_line where report_id = $1 order by n`,
      [reportId],
    );
    // A cell that begins like a formula would be one in a spreadsheet.
    const csv = stringify([...lines], { header: true, columns: ["order", "charge", "cents"], escape_formulas: true });
    await mailer.sendMail({
      from: "Post Shop <reports@shop.example>",
      to: accounting,
      subject: `Sales report, ${lines.length} payments`,
      text: `The report ${reportId} is attached.\n`,
      messageId: `<${idempotencyKey()}@shop.example>`,
      headers: { "X-About": reportId, "X-Attempt": String(attempt) },
      attachments: [{ filename: `${reportId}.csv`, content: csv, contentType: "text/csv; charset=utf-8" }],
    });
  };
}

export interface Report {
  readonly id: string;
  readonly lines: number;
  readonly cents: number;
  readonly closedAt: string;
  /** Lines that accounting has booked. */
  readonly booked: number;
}

export async function reports(): Promise<readonly Report[]> {
  return read<Report>(
    `select r.id, r.lines, r.cents::float8 as cents, to_json(r.closed_at) #>> '{}' as "closedAt",
       (select count(*)::int from outside.accounting_line a where a.report_id = r.id) as booked
     from shop.report r order by r.closed_at desc limit 5`,
  );
}
