/** Who sits at the command line, for the record. */
import { hostname, userInfo } from "node:os";

export function operator(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return hostname();
  }
}
