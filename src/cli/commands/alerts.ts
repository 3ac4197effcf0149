/** `posthorn alerts`: what crosses its bound now, and what did. */
import { durationInWords } from "../../core/words.js";
import { type Alert, crossedAlerts, recentAlerts } from "../../store/operate.js";
import { type Io, oneLine, paint, table } from "../io.js";
import { reading } from "../open.js";
import { flag, type Line, number } from "../parse.js";
import { clock, grouped } from "../words.js";

export async function alerts(line: Line, io: Io): Promise<number> {
  const { open, resolved } = await reading(line, async (database) => ({
    open: await crossedAlerts(database),
    resolved: await recentAlerts(database, number(line, "limit")),
  }));
  if (flag(line, "json")) io.out(`${JSON.stringify({ open, resolved })}\n`);
  else {
    const now =
      open.length === 0
        ? paint(io, "green", "No alert is open.\n")
        : `${paint(io, "red", "Open")}\n${alertTable(open, io)}`;
    const before = resolved.length === 0 ? "" : `\nResolved\n${alertTable(resolved, io)}`;
    io.out(`${now}${before}`);
  }
  return open.length > 0 ? 1 : 0;
}

/** The alerts that there are, in words. */
export const inWords: Readonly<Record<string, string>> = {
  oldestAgeMs: "the oldest waits",
  backlog: "messages wait",
  deadLetters: "dead letters",
  invalid: "invalid messages",
  noWorkerMs: "waits without a worker",
  circuitOpen: "the circuit is open",
  noHandlerMs: "waits without a handler",
  mixedPoliciesMs: "policies side by side",
  outdatedWorkers: "workers too old for the schema",
  intakeAwayMs: "not connected",
  intakeRefused: "messages are refused",
  intakeInvalid: "invalid messages",
  segmentsInUse: "no segment of the log is free",
};

/** A figure of an alert: durations end in Ms. */
function figure(alert: string, value: number): string {
  return alert.endsWith("Ms") ? durationInWords(value) : grouped(value);
}

/** What brokers and handlers say may hold anything. */
function whatOf(alert: string, detail: Alert["detail"], detailAt: Alert["detailAt"], now: string): string {
  if (detail === undefined || detail === null) return inWords[alert] ?? "";
  return `${oneLine(detail, 300)}${detailAt ? ` (said at ${clock(detailAt, now)})` : ""}`;
}

export function alertTable(list: readonly Alert[], io: Io): string {
  const now = new Date().toISOString();
  // What is to be said of the whole log takes some sentences.
  const ofLog = list.flatMap(({ subscription, detail }) => (subscription === null && detail ? [`${detail}\n`] : []));
  return `${table(
    io,
    [
      { title: "Queue or subscription" },
      { title: "Alert" },
      { title: "What" },
      { title: "Value", right: true },
      { title: "Bound", right: true },
      { title: "Since" },
      { title: "Until" },
    ],
    list.map(({ alert, subscription, value, threshold, detail, detailAt, raisedAt, resolvedAt }) => [
      subscription ?? "the log",
      alert,
      whatOf(alert, subscription === null ? undefined : detail, detailAt, now),
      figure(alert, value),
      figure(alert, threshold),
      raisedAt === null ? "now, not raised yet" : clock(raisedAt, now),
      resolvedAt === undefined ? "" : clock(resolvedAt, now),
    ]),
  )}${ofLog.join("")}`;
}
