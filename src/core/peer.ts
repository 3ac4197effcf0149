/** Packages that the user may leave out: loaded when they are needed, and a missing one is an error that says what to install. */
import { ConfigurationError } from "./errors.js";

/**
 * `install`: all that the same thing needs, parted by spaces. Errors: `ConfigurationError` with the code `PH_PEER_MISSING`; whatever the package itself throws is
 * passed on.
 */
export async function loadPeer<T>(
  name: string,
  what: string,
  load: () => Promise<T>,
  install: string = name,
): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
    if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") throw error;
    const message = `The package ${name} is needed for ${what} and is not installed. Run: npm install ${install}`;
    throw new ConfigurationError("PH_PEER_MISSING", message, { package: name }, error);
  }
}
