/** A worker with every option at its default, whose handler begins by looking at the clock. */
import { posthorn } from "posthorn";
import { now } from "../clock.js";
import { Work } from "../payload.js";
import { handlerPolicy } from "../policy.js";
import { Latencies, type ReceiverCalls } from "./latencies.js";
import { serve, settings } from "./serve.js";

const { url } = settings<{ readonly url: string }>();
const latencies = new Latencies();
const post = posthorn({ service: "bench", database: url, migrate: "auto" });
post.queue("work", handlerPolicy()).handle(Work, async ({ cents }, { signal }) => {
  latencies.add(now() - cents);
  signal.throwIfAborted();
});
await post.start();

serve<ReceiverCalls>({ take: (count) => latencies.take(count) });
