/** Open-loop arrival: what is due is sent when it is due, whether or not what was sent before has been confirmed. */
import { setTimeout as wait } from "node:timers/promises";
import { now } from "../clock.js";

export interface Traffic {
  readonly perSecond: number;
  readonly ms: number;
}

export interface Sent {
  readonly count: number;
  readonly seconds: number;
  /** The most that a call began after its time. */
  readonly latestMs: number;
}

export interface SenderCalls {
  readonly send: (traffic: Traffic) => Promise<Sent>;
}

export async function sendAtRate({ perSecond, ms }: Traffic, send: (n: number) => Promise<unknown>): Promise<Sent> {
  const count = Math.round((perSecond * ms) / 1_000);
  const calls: Promise<unknown>[] = [];
  const failures: unknown[] = [];
  let latestMs = 0;
  const begun = now();
  while (calls.length < count) {
    const due = begun + (calls.length * 1_000) / perSecond;
    const early = due - now();
    if (early > 0) {
      await wait(Math.ceil(early));
      continue;
    }
    latestMs = Math.max(latestMs, -early);
    calls.push(send(calls.length).catch((error) => failures.push(error)));
  }
  const seconds = (now() - begun) / 1_000;
  await Promise.all(calls);
  if (failures.length > 0) throw failures[0];
  return { count, seconds, latestMs };
}
