/** What a broker of the benchmarks runs in, and the one of webhooks, which is a program of ours. */
import { startProgram } from "./program.js";
import type { HttpReceiverCalls } from "./programs/http-receiver.js";

export interface Service {
  readonly url: string;
  /** SIGKILL, as an outage is. */
  kill(): Promise<void>;
  /** On the same port, with what it kept. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A receiver of webhooks. */
export async function startHttpReceiver(): Promise<Service> {
  let program = await startProgram<HttpReceiverCalls>("http-receiver", { port: 0 });
  const port = await program.call("port", undefined);
  return {
    url: `http://127.0.0.1:${port}`,
    kill: async () => {
      program.kill();
      await program.stop();
    },
    restart: async () => {
      program = await startProgram<HttpReceiverCalls>("http-receiver", { port });
    },
    stop: () => program.stop(),
  };
}
