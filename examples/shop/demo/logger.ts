/**
 * Tells the console what happens without flooding it: with the mail server down, ten thousand mails fail in the same words.
 *
 * The first of a kind is printed at once; those that follow are counted, and told in one line each ten seconds.
 */
import { type Logger, seconds } from "posthorn";

const quietMs = seconds(10);

export function calmLogger(): Logger {
  /** How many of a kind came since it was last told; absent when it may be told at once. */
  const since = new Map<string, number>();
  const tell = (level: "warn" | "error") => (message: string) => {
    const kind = kindOf(message);
    const more = since.get(kind);
    since.set(kind, more === undefined ? 0 : more + 1);
    if (more !== undefined) return;
    console[level](`posthorn: ${message}`);
    sumUp(kind, (count) => console[level](`posthorn: ${count} more within ten seconds like: ${message}`));
  };
  /** As long as more of the kind come, one line each ten seconds. */
  const sumUp = (kind: string, print: (count: number) => void): void => {
    setTimeout(() => {
      const count = since.get(kind) ?? 0;
      if (count === 0) {
        since.delete(kind);
        return;
      }
      since.set(kind, 0);
      print(count);
      sumUp(kind, print);
    }, quietMs).unref();
  };
  return { info: () => undefined, warn: tell("warn"), error: tell("error") };
}

/** Without what differs from message to message: ids and numbers. */
function kindOf(message: string): string {
  return message.replace(/[0-9a-f]*[0-9][0-9a-f-]*/g, "0");
}
