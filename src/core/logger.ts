/**
 * Where the library tells what nobody asked for. The console fits as it is; for pino, whose facts come first:
 * `{ info: (text, facts) => pino.info(facts, text), … }`. Never a payload, never a password.
 */
export interface Logger {
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
  error(message: string, facts?: object): void;
}

/** Warnings and errors to the console; information to nobody. */
export const consoleLogger: Logger = {
  info: () => undefined,
  warn: (message, facts) => console.warn(`posthorn: ${message}`, facts ?? ""),
  error: (message, facts) => console.error(`posthorn: ${message}`, facts ?? ""),
};

export const silentLogger: Logger = { info: () => undefined, warn: () => undefined, error: () => undefined };
