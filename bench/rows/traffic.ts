/** A sender and a receiver in processes of their own, and rounds of messages between them at a steady rate. */
import { percentile } from "../measure.js";
import { startProgram } from "../program.js";
import type { SenderCalls } from "../programs/arrivals.js";
import type { ReceiverCalls } from "../programs/latencies.js";

/** What one round at one rate came to, in milliseconds. */
export interface Passed {
  readonly p50: number;
  readonly p99: number;
  readonly seconds: number;
}

export interface Traffic {
  at(perSecond: number, ms: number): Promise<Passed>;
  /** The most that a call of any round began after its time. */
  readonly latestMs: number;
  stop(): Promise<void>;
}

/** "message": the product. "notify": N, insert and pg_notify in one process, callback in another. */
export async function openTraffic(way: "message" | "notify", url: string): Promise<Traffic> {
  // The receiver makes the tables.
  const receiver = await startProgram<ReceiverCalls>(`${way}-receiver`, { url });
  const sender = await startProgram<SenderCalls>(`${way}-sender`, { url });
  let latestMs = 0;
  return {
    at: async (perSecond, ms) => {
      const sent = await sender.call("send", { perSecond, ms });
      const taken = await receiver.call("take", sent.count);
      latestMs = Math.max(latestMs, sent.latestMs);
      return { p50: percentile(taken, 0.5), p99: percentile(taken, 0.99), seconds: sent.seconds };
    },
    get latestMs() {
      return latestMs;
    },
    stop: async () => {
      await sender.stop();
      await receiver.stop();
    },
  };
}
