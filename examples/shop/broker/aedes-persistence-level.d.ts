/** The package has no types of its own. */
declare module "aedes-persistence-level" {
  import type { Level } from "level";

  function persistence(db: Level<string, Uint8Array>): object;
  export = persistence;
}
