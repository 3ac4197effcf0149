/** Posts webhooks as fast as they are answered, from a process of its own: what takes them in is not to be slowed by it. */
import { webhook } from "posthorn/webhooks";
import { outgoing } from "../rows/relay.js";
import { serve, settings } from "./serve.js";

export interface PosterSettings {
  readonly url: string;
  readonly secret: string;
}

export interface PosterCalls {
  /** Returns when the events of these numbers are acknowledged. Errors: when one is not. */
  readonly post: (range: { readonly from: number; readonly upTo: number }) => Promise<void>;
}

const { url, secret } = settings<PosterSettings>();
/** As from many senders: each waits for its commit, so no more than these are written in one batch. */
const connections = 200;
/** Several calls at once, so that the connections never wait for the last one of a call. */
const [calls, size] = [8, 50];
const signal = new AbortController().signal;
const to = webhook({ url, secrets: [secret], allowPrivate: ["127.0.0.1"], connections });
const sender = await to.openSender({ name: "bench", service: "shop", signal, onTrouble: () => undefined });

serve<PosterCalls>({
  post: async ({ from, upTo }) => {
    let next = from;
    const postOn = async (): Promise<void> => {
      while (next < upTo) {
        const [first, last] = [next, Math.min(upTo, next + size)];
        next = last;
        const sent = await sender.send(
          Array.from({ length: last - first }, (_, i) => outgoing(first + i)),
          signal,
        );
        const other = sent.find(({ kind }) => kind !== "acknowledged");
        if (other !== undefined) throw new Error(`not acknowledged: ${JSON.stringify(other)}`);
      }
    };
    await Promise.all(Array.from({ length: calls }, postOn));
  },
});
