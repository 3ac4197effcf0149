/** What `posthorn dev` and the process in which the user's code runs say to each other. */
import type { ErrorGroup } from "../../store/operate.js";
import type { Look } from "../commands/status.js";

/** How the process is to be started. */
export interface Setup {
  readonly file: string;
  /** The embedded database that DATABASE_URL names, which the configuration has to use then. */
  readonly embedded: string | undefined;
  /** Migrate also where the database is not on this machine. */
  readonly migrate: boolean;
  readonly everyMs: number;
}

export interface ToStop {
  readonly do: "stop";
  readonly graceMs: number;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
  /** It may work a moment later without any change. */
  readonly passing: boolean;
}

export type Said =
  | { readonly said: "loaded"; readonly service: string; readonly database: string; readonly folder?: string }
  | { readonly said: "started"; readonly worksOn: readonly string[] }
  | { readonly said: "looked"; readonly look: Look; readonly failures: readonly ErrorGroup[] }
  | { readonly said: "blind"; readonly reason: string }
  | { readonly said: "failed"; readonly failure: Failure }
  | { readonly said: "stopped" };

export function isSaid(value: unknown): value is Said {
  return typeof value === "object" && value !== null && "said" in value && typeof value.said === "string";
}

export function isToStop(value: unknown): value is ToStop {
  return typeof value === "object" && value !== null && "do" in value && value.do === "stop";
}
