/** What is pushed to an intake does not lie anywhere: another process posts it while it is measured, to the intake and, for the limit, to its door alone. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { posthorn } from "posthorn";
import type { WebhookIntake } from "posthorn/webhooks";
import type { Bench } from "../bench.js";
import { startProgram } from "../program.js";
import type { PosterCalls } from "../programs/webhook-poster.js";
import { ThingRelayed } from "../relayed.js";
import type { Taking } from "./taking.js";

const batch = 1_000;
const path = "/hooks";

/** A webhook costs its poster and its server some hundred microseconds together. */
export const pushedCount = 10_000;

/** Doors are made anew for each round, behind one server, so that its poster keeps its connections. */
export async function pushed(bench: Bench, messages: number): Promise<Taking> {
  const [{ listener }, { newWebhookSecret, webhookIntake }] = await Promise.all([
    import("posthorn/http"),
    import("posthorn/webhooks"),
  ]);
  const secret = newWebhookSecret();
  let hooks: WebhookIntake | undefined;
  const server = createServer(
    listener(async (request) => (await hooks?.fetch(request)) ?? new Response(null, { status: 503 })),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const poster = await startProgram<PosterCalls>("webhook-poster", { url: `http://127.0.0.1:${port}${path}`, secret });
  let posted = 0;
  const post = async (): Promise<number> => {
    const from = posted;
    posted += messages;
    const begun = performance.now();
    await poster.call("post", { from, upTo: posted });
    return (performance.now() - begun) / 1_000;
  };
  const open = (): WebhookIntake => {
    hooks = webhookIntake({ secrets: [secret], path });
    return hooks;
  };
  return {
    product: () => takeInOnce(bench, open(), messages, post),
    alone: () => takeAloneOnce(open(), post),
    close: async () => {
      await poster.stop();
      server.close();
    },
  };
}

async function takeInOnce(
  bench: Bench,
  from: WebhookIntake,
  messages: number,
  post: () => Promise<number>,
): Promise<number> {
  const place = await bench.database();
  const here = posthorn({ service: "bench", database: place.url, migrate: "auto" });
  here.intake("bench", { from, into: [ThingRelayed], batchSize: batch });
  await here.start();
  const seconds = await post();
  const [line] = await here.intakes();
  if (line?.written !== messages) throw new Error(`${line?.written} of ${messages} were written`);
  await here.stop();
  await place.drop();
  return seconds;
}

/** Everything but the writing: what comes is answered as soon as it was received. */
async function takeAloneOnce(from: WebhookIntake, post: () => Promise<number>): Promise<number> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const receiver = await from.openReceiver({ name: "bench", service: "shop", signal, onTrouble: () => undefined });
  const answering = (async () => {
    while (!signal.aborted) await receiver.acknowledge(await receiver.receive({ max: batch, waitMs: 1_000, signal }));
  })();
  const seconds = await post();
  stopping.abort();
  await answering;
  await receiver.close();
  return seconds;
}
