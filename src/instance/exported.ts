/** What the command line reads of an instance that a configuration file exports; nothing of it is for programs. */
import type { DatabaseInput } from "../databases/open.js";
import type { IntakeDeclaration } from "../intakes/options.js";
import type { Declared } from "../worker/registration.js";
import type { Post } from "./post.js";

/** A text, not a symbol or a class: the configuration may have loaded another copy of the package than the command line is of. */
export const exported = "~posthorn";

export interface Exported {
  readonly version: 1;
  readonly service: string;
  readonly database: DatabaseInput;
  /** Absent where an older copy of the package made it. */
  readonly schema?: string;
  readonly declared: readonly Declared[];
  /** Absent where an older copy of the package made it. */
  readonly intakes?: readonly IntakeDeclaration[];
}

/** An instance, whichever copy of the package made it. */
export type ExportedPost = Pick<Post<unknown>, "start" | "stop" | "migrate" | "ready" | "scaling"> & {
  readonly [exported]: Exported;
};

/** What it works on when it is told of nothing in particular: queues, subscriptions and relays, and then intakes. */
export function declaredNames({ [exported]: { declared, intakes = [] } }: ExportedPost): readonly string[] {
  return [...declared, ...intakes].map(({ name }) => name);
}

export function isExportedPost(value: unknown): value is ExportedPost {
  if (typeof value !== "object" || value === null || !(exported in value)) return false;
  const read = value[exported];
  return typeof read === "object" && read !== null && "version" in read && "declared" in read;
}
