/**
 * Tells the console what happens without flooding it: with the mail server down, ten thousand mails fail in the same words.
 *
 * The first of a kind is printed at once; those that follow within ten seconds are counted and told in one line.
 */
import { type Logger, seconds } from "posthorn";

const quietMs = seconds(10);

export function calmLogger(): Logger {
  const counted = new Map<string, number>();
  const tell = (level: "warn" | "error") => (message: string) => {
    const kind = kindOf(message);
    const before = counted.get(kind);
    counted.set(kind, (before ?? -1) + 1);
    if (before !== undefined) return;
    console[level](`posthorn: ${message}`);
    const timer = setTimeout(() => {
      const more = counted.get(kind) ?? 0;
      counted.delete(kind);
      if (more > 0) console[level](`posthorn: ${more} more within ten seconds like: ${message}`);
    }, quietMs);
    timer.unref();
  };
  return { info: () => undefined, warn: tell("warn"), error: tell("error") };
}

/** Without what differs from message to message: ids and numbers. */
function kindOf(message: string): string {
  return message.replace(/[0-9a-f]*[0-9][0-9a-f-]*/g, "0");
}
