/** Reads again what fitted nothing before, with the contracts of today, where an operator has ordered it. */
import type { Incoming } from "../brokers/broker.js";
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import { type Fitting, type Holding, readAgain, type Unfit, type UnfitAgain, unfitAgain } from "../store/intake.js";
import type { Noted } from "./noted.js";
import type { Reader } from "./reading.js";

/** Entries of one pass: each may be large. */
const entriesPerPass = 20;

export interface Redriving {
  /** Of the intake. */
  readonly name: string;
  readonly reader: Reader;
  readonly holding: Holding;
  readonly executor: Executor;
  readonly logger: Logger;
  readonly noted: Noted;
  readonly onWritten: (channels: ReadonlySet<number>) => void;
}

/** One pass; what is left is found by the next. Errors: as `readAgain`; then nothing has changed. */
export async function redrivePass(redriving: Redriving): Promise<void> {
  const { reader, holding, executor, noted, onWritten } = redriving;
  const fitting: Fitting[] = [];
  const unfit: { id: string; reason: string | null; misfit: string; marks?: readonly string[] }[] = [];
  for (const entry of await unfitAgain(executor, holding.intake, entriesPerPass)) {
    const { id } = entry;
    if (!entry.whole) {
      const reason = "it was not kept whole, so it cannot be read again";
      unfit.push({ id, reason, misfit: "not kept whole" });
      continue;
    }
    const reading = await reader.read(incomingOf(entry));
    if (reading.kind === "message") fitting.push({ id, message: reading.message });
    else if (reading.kind === "invalid")
      unfit.push({ id, reason: reading.unfit.reason, misfit: reading.misfit, marks: marksOf(reading.unfit) });
    else unfit.push({ id, reason: null, misfit: "" });
  }
  const { written, absorbed } = await readAgain(executor, holding, fitting, unfit);
  if (written > 0) onWritten(new Set(fitting.map(({ message }) => message.channel)));
  for (const { id, reason, misfit } of unfit) {
    if (reason !== null && !absorbed.includes(id)) noted.noteAgain(`in-${id}`, misfit);
  }
  if (absorbed.length > 0) tellAbsorbed(redriving, absorbed);
}

function tellAbsorbed({ name, logger }: Redriving, absorbed: readonly string[]): void {
  // It is gone from the list, and an operator who expects it in the log is to find why it is not there.
  const entries = absorbed.map((id) => `in-${id}`);
  const [those, end, they] = entries.length === 1 ? ["its", "ends", "it"] : ["their", "end", "they"];
  logger.warn(
    `the intake "${name}" has not written ${entries.join(", ")}, which an operator has redriven: a message of ${those} id was taken in already, so ${they} ${end} as a duplicate`,
    { intake: name, absorbed: entries },
  );
}

/** That it would be taken in under. */
function marksOf({ once, mark, former = [] }: Unfit): readonly string[] {
  return once ? [mark, ...former] : [];
}

function incomingOf({ headers, contentType, body, key, brokerId, position }: UnfitAgain): Incoming {
  return {
    headers,
    contentType: contentType ?? undefined,
    body: Buffer.from(body, "base64"),
    ...(key !== null && { key }),
    ...(brokerId !== null && { id: brokerId }),
    ...(position !== null && { position }),
    handle: undefined,
  };
}
