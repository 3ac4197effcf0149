/**
 * One process holds the folder of an embedded database.
 *
 * A lock is a file `lock.<n>`; the highest n counts. It is created with all its content by `link`, so of several processes that
 * want generation n exactly one gets it. A lock is never removed to be taken: a dead or released generation is followed by the
 * next one. So nobody can remove a lock that somebody else has just taken. A holder clears away generations older than the one
 * before its own; a process that was slower than that finds a higher generation after its link and stands back.
 *
 * A holder is dead when its pid is gone, is a zombie, or started at another time than the lock says (the pid was reused), or
 * when the machine has booted since. Where a pid says nothing (another container on the same machine), the holder's socket does:
 * it listens before it takes the lock, and the kernel closes it when it dies.
 */
import { randomUUID } from "node:crypto";
import { link, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { EmbeddedHeldError, InternalError } from "../../core/errors.js";
import { codeOf } from "../errors.js";
import { identity, isSameProcessAlive, type ProcessIdentity } from "./process-identity.js";

export interface Holder extends ProcessIdentity {
  /** When the lock was taken, ISO 8601. */
  readonly since: string;
  /** The socket through which others may run statements. */
  readonly socket: string;
  readonly token: string;
  readonly released: boolean;
}

export interface Lock {
  readonly holder: Holder;
  /** Safe to call twice. */
  release(): Promise<void>;
}

interface Generation {
  readonly number: number;
  readonly holder: Holder;
}

/** Losing a race means that another process made progress, so a few rounds are plenty. */
const rounds = 100;

const fileOf = (folder: string, number: number) => join(folder, `lock.${number}`);

async function generations(folder: string): Promise<number[]> {
  const numbers: number[] = [];
  for (const name of await readdir(folder)) {
    const found = /^lock\.(\d+)$/.exec(name);
    if (found?.[1] !== undefined) numbers.push(Number(found[1]));
  }
  return numbers.sort((a, b) => b - a);
}

function parse(text: string): Holder | undefined {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null) return undefined;
  const { pid, start, boot, space, host, since, socket, token, released } = value as Partial<Holder>;
  if (typeof pid !== "number" || typeof since !== "string" || typeof socket !== "string") return undefined;
  if (typeof token !== "string" || typeof host !== "string") return undefined;
  return { pid, start, boot, space, host, since, socket, token, released: released === true };
}

/** The newest generation; undefined in a folder that was never held. */
async function newest(folder: string): Promise<Generation | undefined> {
  for (let round = 0; round < rounds; round++) {
    const [number] = await generations(folder);
    if (number === undefined) return undefined;
    try {
      const holder = parse(await readFile(fileOf(folder, number), "utf8"));
      if (holder !== undefined) return { number, holder };
    } catch (error) {
      // Cleared away by a newer holder between the two calls: look again.
      if (codeOf(error) === "ENOENT") continue;
      throw error;
    }
    throw new InternalError("PH_INTERNAL", `The lock file ${fileOf(folder, number)} cannot be read. Is it damaged?`);
  }
  throw new InternalError("PH_INTERNAL", `The locks in ${folder} change faster than they can be read.`);
}

function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // Only these two say that nobody is there; everything else leaves doubt, and doubt leaves the holder its lock.
    probe.once("error", (error) => resolve(!["ECONNREFUSED", "ENOENT"].includes(codeOf(error) ?? "")));
  });
}

async function isHeld(holder: Holder): Promise<boolean> {
  if (holder.released) return false;
  return (await isSameProcessAlive(holder)) ?? listens(holder.socket);
}

/** Who holds the folder now, if anybody alive does. */
export async function holderOf(folder: string): Promise<Holder | undefined> {
  const found = await newest(folder);
  return found !== undefined && (await isHeld(found.holder)) ? found.holder : undefined;
}

export function heldError(database: string, holder: Holder): EmbeddedHeldError {
  const { pid, since, host } = holder;
  const who = pid === process.pid ? `this process (pid ${pid})` : `process ${pid} on ${host}`;
  return new EmbeddedHeldError(
    "PH_EMBEDDED_HELD",
    `${database} is held by ${who} since ${since}. An embedded database has one process; only the command line looks into it beside. Stop that one, or use a PostgreSQL server.`,
    { pid, since, host },
  );
}

/** Takes the lock in `folder`, or fails with `EmbeddedHeldError`. `database` is the name for messages. */
export async function takeLock(folder: string, database: string, socket: string): Promise<Lock> {
  const token = randomUUID();
  const holder: Holder = {
    ...(await identity(process.pid)),
    since: new Date().toISOString(),
    socket,
    token,
    released: false,
  };
  const draft = join(folder, `draft.${token}`);
  await writeFile(draft, JSON.stringify(holder), { mode: 0o600, flag: "wx" });
  try {
    const number = await takeNext(folder, database, draft);
    await clearBefore(folder, number - 1);
    let released = false;
    const release = async () => {
      if (released) return;
      released = true;
      await markReleased(folder, number, holder);
    };
    return { holder, release };
  } finally {
    await rm(draft, { force: true });
  }
}

async function takeNext(folder: string, database: string, draft: string): Promise<number> {
  for (let round = 0; round < rounds; round++) {
    const last = await newest(folder);
    if (last !== undefined && (await isHeld(last.holder))) throw heldError(database, last.holder);
    const number = (last?.number ?? 0) + 1;
    try {
      await link(draft, fileOf(folder, number));
    } catch (error) {
      if (codeOf(error) === "EEXIST") continue;
      throw error;
    }
    const [highest] = await generations(folder);
    if (highest === number) return number;
    await rm(fileOf(folder, number), { force: true });
  }
  throw new InternalError("PH_INTERNAL", `The lock in ${folder} was lost to other processes ${rounds} times.`);
}

async function clearBefore(folder: string, number: number): Promise<void> {
  for (const old of await generations(folder)) {
    if (old >= number) continue;
    const file = fileOf(folder, old);
    const socket = await readFile(file, "utf8").then(
      (text) => parse(text)?.socket,
      () => undefined,
    );
    if (socket !== undefined) await rm(socket, { force: true });
    await rm(file, { force: true });
  }
}

/** The file stays, so that the next generation has a higher number; only its holder changes it. */
async function markReleased(folder: string, number: number, holder: Holder): Promise<void> {
  const draft = join(folder, `draft.${holder.token}`);
  await writeFile(draft, JSON.stringify({ ...holder, released: true }), { mode: 0o600 });
  await rename(draft, fileOf(folder, number));
}
