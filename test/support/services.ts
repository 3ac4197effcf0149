/** Real brokers for tests: what scripts/services starts, each with a folder of its own, and gone when the test file ends. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

export interface Service {
  /** With a user and a password where it wants them. */
  readonly url: string;
  readonly port: number;
  /** Through what it keeps everything that it has acknowledged. */
  readonly keeps: "kill" | "stop" | "nothing";
  /** In good order. */
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** On the same folder and port, after `stop` or `kill` or in good order. */
  restart(): Promise<void>;
  /** Where a declaration outlives a kill only after a moment: waits for it. */
  settled?(): Promise<void>;
}

export interface OwnService extends Service {
  /** What it has printed. */
  log(): Promise<string>;
  /** Stops it, and removes its folder. */
  remove(): Promise<void>;
}

const started = new Set<OwnService>();
afterAll(async () => {
  for (const service of started) await service.remove();
});

/** Starts one: `startService("mosquitto")`. `options` are those of the file in scripts/services. */
export async function startService(name: string, options: Readonly<Record<string, unknown>> = {}): Promise<OwnService> {
  const { start } = await import(new URL(`../../scripts/services/${name}.mjs`, import.meta.url).href);
  const folder = await mkdtemp(join(tmpdir(), `posthorn-${name}-`));
  const log = `${folder}.log`;
  const service: Service = await start({ folder, log, ...options });
  let removed: Promise<void> | undefined;
  const remove = async () => {
    await service.kill();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    await rm(log, { force: true });
  };
  const own: OwnService = {
    ...service,
    log: () => readFile(log, "utf8"),
    remove: () => {
      removed ??= remove();
      return removed;
    },
  };
  started.add(own);
  return own;
}
