/** A worker whose handler begins, tells so, and goes on only when it is told: until then it is in mid-handler, and may be killed. */
import { posthorn } from "posthorn";
import { now } from "../clock.js";
import { Work } from "../payload.js";
import { handlerPolicy } from "../policy.js";
import { serve, settings } from "./serve.js";

export interface HolderCalls {
  /** Answers when a handler begins, with the moment at which it did. */
  readonly begun: () => Promise<number>;
  readonly goOn: () => void;
}

const { url } = settings<{ readonly url: string }>();
// Twenty deaths are announced here, and expected.
const logger = { info: () => undefined, warn: () => undefined, error: console.error };
const post = posthorn({ service: "bench", database: url, migrate: "auto", logger });

let goOn: () => void = () => undefined;
let tell: () => void = () => undefined;
const begins: number[] = [];

post.queue("work", handlerPolicy()).handle(Work, async () => {
  begins.push(now());
  tell();
  await new Promise<void>((resolve) => {
    goOn = resolve;
  });
});
await post.start();

serve<HolderCalls>({
  begun: async () => {
    for (;;) {
      const at = begins.shift();
      if (at !== undefined) return at;
      await new Promise<void>((resolve) => {
        tell = resolve;
      });
    }
  },
  goOn: () => goOn(),
});
