/** The embedded MQTT broker of `npm test`, as a service: version 3.1.1, in memory. */
import { freePort } from "../support/free-port.js";
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
