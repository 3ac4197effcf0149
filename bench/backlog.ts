/** Filling a queue, and proof that it was worked off. */
import type { Post } from "posthorn";
import { payloads, Work } from "./payload.js";

const callsAtOnce = 4;

/** Sends `count` messages in thousands, several calls at once: what is measured comes later. */
export async function fill<Tx>(post: Post<Tx>, count: number, tell: (sent: number) => void = () => {}): Promise<void> {
  let left = count;
  let sent = 0;
  const sendOn = async () => {
    while (left > 0) {
      const some = payloads.slice(0, Math.min(left, payloads.length));
      left -= some.length;
      await post.sendMany(Work, some);
      sent += some.length;
      tell(sent);
    }
  };
  await Promise.all(Array.from({ length: callsAtOnce }, sendOn));
}

/** A rate of messages that were lost, repeated, failed or not settled would be no rate. */
export async function checkDrained<Tx>(post: Post<Tx>, handled: number, wanted: number): Promise<void> {
  const lines = await post.backlog();
  const rest = lines.reduce((sum, l) => sum + l.backlog + l.running + l.retrying + l.deadLetters + l.invalid, 0);
  if (handled === wanted && rest === 0) return;
  throw new Error(`${handled} of ${wanted} messages were handled, and ${rest} are left: ${JSON.stringify(lines)}`);
}
