/**
 * SIGINT and SIGTERM as orders to stop: the first lets running handlers finish, a second ends the process at once.
 *
 * When everything has stopped, the process ends as one that was told to: by the signal itself, unless somebody else listens to it, whose
 * affair the end is then.
 */
import type { Logger } from "../core/logger.js";

const signals = { SIGINT: 2, SIGTERM: 15 } as const;
type Signal = keyof typeof signals;

/** Listens until the returned function is called. */
export function stopOnSignals(stop: () => Promise<void>, logger: Logger): () => void {
  let stopping = false;
  const forget = (): void => {
    for (const name of Object.keys(signals)) process.off(name, told);
  };
  const told = (signal: Signal): void => {
    // As a shell shows a process that a signal ended.
    if (stopping) process.exit(128 + signals[signal]);
    stopping = true;
    logger.info(`${signal}: running handlers may finish; a second signal ends them`, {});
    void stop()
      .catch((error) => logger.error("stopping failed", { error }))
      .finally(() => {
        forget();
        if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
      });
  };
  for (const name of Object.keys(signals)) process.on(name, told);
  return () => {
    if (!stopping) forget();
  };
}
