/** Accounting: opens the mails with reports and books their lines. */
import { parse } from "csv-parse/sync";
import { z } from "zod";
import { accounting } from "../features/report.js";
import type { Filed, Mail } from "./mailbox.js";

const Lines = z.array(z.object({ order: z.uuid(), charge: z.string(), cents: z.coerce.number().int() }));

/** Nothing for other mail. */
export function bookReport({ to, about, csv }: Mail): readonly Filed[] {
  if (to !== accounting || about === null) return [];
  return csv.flatMap((text) =>
    Lines.parse(parse(text, { columns: true })).map(({ order, cents }) => ({ reportId: about, orderId: order, cents })),
  );
}
