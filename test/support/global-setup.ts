/**
 * What one test run shares: a server with a migrated database, embedded databases, a compiled copy of the sources, the packed package. Each is made when a test first asks.
 *
 * Tests run in worker processes; they ask over a loopback connection: one line with the name, one line of JSON back.
 */
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { TestProject } from "vitest/node";
import { compileFixtures } from "./compile.js";
import { type OwnServer, startServer } from "./own-server.js";
import { packTarball } from "./tarball.js";
import { forgetMemory } from "./temp-folder.js";
import { makeMigrated, makePglites } from "./templates.js";

declare module "vitest" {
  interface ProvidedContext {
    "posthorn:shared": number;
  }
}

const sharedNames = ["server", "pglite", "fixtures", "tarball"] as const;
export type SharedName = (typeof sharedNames)[number];
export type SharedReply = { readonly value: string } | { readonly error: string };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let server: Promise<OwnServer> | undefined;
  let pglites: ReturnType<typeof makePglites> | undefined;
  let fixtures: ReturnType<typeof compileFixtures> | undefined;
  let tarball: ReturnType<typeof packTarball> | undefined;
  const makers: Readonly<Record<SharedName, () => Promise<string>>> = {
    server: async () => {
      server ??= serverOfTheRun();
      return (await server).url();
    },
    pglite: async () => {
      pglites ??= makePglites();
      return JSON.stringify((await pglites).made);
    },
    fixtures: async () => {
      fixtures ??= compileFixtures();
      return (await fixtures).folder;
    },
    tarball: async () => {
      tarball ??= packTarball();
      return (await tarball).file;
    },
  };
  const desk = createServer((socket) => void answer(socket, makers));
  await new Promise<void>((resolve) => desk.listen(0, "127.0.0.1", resolve));
  const address = desk.address();
  if (address === null || typeof address === "string") throw new Error("the loopback address has no port");
  project.provide("posthorn:shared", address.port);
  return async () => {
    desk.close();
    await (await server?.catch(() => undefined))?.remove();
    await (await pglites?.catch(() => undefined))?.remove();
    await (await fixtures?.catch(() => undefined))?.remove();
    await (await tarball?.catch(() => undefined))?.remove();
    await forgetMemory();
  };
}

async function answer(socket: Socket, makers: Readonly<Record<SharedName, () => Promise<string>>>): Promise<void> {
  socket.on("error", () => socket.destroy());
  for await (const name of createInterface({ input: socket })) {
    const known = sharedNames.find((one) => one === name);
    if (known === undefined) continue;
    const reply: SharedReply = await makers[known]().then(
      (value) => ({ value }),
      (error: unknown) => ({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
    socket.end(`${JSON.stringify(reply)}\n`);
    return;
  }
}

async function serverOfTheRun(): Promise<OwnServer> {
  const server = await startServer();
  await makeMigrated(server.url());
  return server;
}
