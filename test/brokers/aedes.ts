/** The embedded MQTT broker of `npm test`, as a service: version 3.1.1, in memory. */
import { createServer } from "node:net";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import type { Service } from "../support/services.js";

export async function startAedes(): Promise<Service> {
  const port = await freePort();
  let running: FixtureProcess | undefined;
  const start = async () => {
    running = await spawnFixture("test/brokers/fixtures/aedes.ts", { args: [String(port)] });
    await running.line("listening");
  };
  const end = async (signal: NodeJS.Signals) => {
    running?.kill(signal);
    await running?.exited;
    running = undefined;
  };
  await start();
  return {
    url: `mqtt://127.0.0.1:${port}`,
    port,
    keeps: "nothing",
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    restart: async () => {
      await end("SIGTERM");
      await start();
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("the loopback address has no port");
  return address.port;
}
