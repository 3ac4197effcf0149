/** Listening on the loopback address: on a port that was asked for, or on a free one where the usual one is taken. */
import type { Server } from "node:net";
import { ConfigurationError } from "../../core/errors.js";

export const loopback = "127.0.0.1";

export interface WantedPort {
  readonly port: number;
  /** Named on the line: another one would not do. */
  readonly asked: boolean;
  readonly option: string;
}

/** Returns the port. Errors: `ConfigurationError` when a port that was asked for is taken. */
export async function listenOn(server: Server, { port, asked, option }: WantedPort): Promise<number> {
  try {
    return await listen(server, port);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EADDRINUSE" && code !== "EACCES") throw error;
    if (!asked) return listen(server, 0);
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `Port ${port} cannot be used: ${code === "EACCES" ? "it needs more rights" : "another program listens there"}. Choose another with --${option}, or leave it out for a free one.`,
      { port },
    );
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, loopback, () => {
      server.off("error", reject);
      const address = server.address();
      if (address === null || typeof address === "string") reject(new Error("the server has no port"));
      else resolve(address.port);
    });
  });
}
