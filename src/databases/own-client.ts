/** A connection that the library has for itself. */
import type { ClientBase, ClientConfig } from "pg";

export interface OwnClient {
  readonly client: ClientBase;
  /** Ends the connection; `hard` does not wait for what runs on it. */
  readonly end: (hard: boolean) => Promise<void>;
}

/** Makes a connected client that nobody else uses. */
export type MakeClient = (overrides: ClientConfig) => Promise<OwnClient>;
