/**
 * The embedded database: PGlite on a folder that one process holds, and a socket for the others.
 *
 * In the folder, `data` is PGlite's, `run` holds lock and socket. `data` appears by a rename when it is complete, so a process
 * that is killed while it makes a new database leaves nothing that looks like one. PGlite writes through to the files of the
 * system: what is committed survives the end of the process, however it ends. It does not force the files to the disk, so a loss
 * of power may take the newest commits.
 */
import { createHash, randomBytes } from "node:crypto";
import { lstat, mkdir, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { PGlite } from "@electric-sql/pglite";
import type { Database } from "../../core/database.js";
import { ConfigurationError, DatabaseRefusedError, DatabaseUnavailableError } from "../../core/errors.js";
import { databaseDefaults, type Settings } from "../defaults.js";
import { codeOf, databaseError } from "../errors.js";
import { PgliteDatabase } from "../pglite.js";
import { SharedConnection } from "./connection.js";
import { holderOf, takeLock } from "./lock.js";
import { EmbeddedServer } from "./server.js";
import { SharedDatabase } from "./shared.js";

type LoadPglite = () => Promise<typeof import("@electric-sql/pglite")>;

interface Place {
  readonly folder: string;
  readonly run: string;
  readonly data: string;
  readonly description: string;
}

export async function openEmbedded(folder: string, settings: Settings, load: LoadPglite): Promise<Database> {
  const place = await prepare(folder);
  if (settings.embedded === "own") return own(place, settings, load);
  const deadline = Date.now() + databaseDefaults.connectTimeoutMs;
  for (;;) {
    try {
      const holder = await holderOf(place.run);
      if (holder === undefined) return await own(place, settings, load);
      const first = await connectTo(place, settings);
      first.end();
      return new SharedDatabase(place.description, () => connectTo(place, settings));
    } catch (error) {
      // The holder came or went between two steps: look again.
      const passing =
        codeOf(error) === "PH_EMBEDDED_HELD" ||
        codeOf(error) === "PH_DATABASE_AWAY" ||
        codeOf(error) === "PH_DATABASE_LOST";
      if (!passing || Date.now() > deadline) throw error;
      await new Promise((wake) => setTimeout(wake, databaseDefaults.lookAgainMs));
    }
  }
}

async function prepare(given: string): Promise<Place> {
  if (given === "") {
    throw new ConfigurationError("PH_OPTION_INVALID", "embedded: needs a folder, for instance embedded:.posthorn", {
      option: "database",
    });
  }
  const folder = resolve(given);
  const place = { folder, run: join(folder, "run"), data: join(folder, "data"), description: `embedded:${given}` };
  if (await exists(join(folder, "PG_VERSION"))) {
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      `${given} is a data folder of PGlite or PostgreSQL itself. Choose a folder of its own, or pass the PGlite instance.`,
      { option: "database" },
    );
  }
  try {
    await mkdir(place.run, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new DatabaseRefusedError(
      "PH_DATABASE_REFUSED",
      `The folder of ${place.description} cannot be made or written. Correct its path or rights.`,
      { folder },
      error,
    );
  }
  return place;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function connectTo(place: Place, settings: Settings): Promise<SharedConnection> {
  const holder = await holderOf(place.run);
  if (holder === undefined) {
    throw new DatabaseUnavailableError(
      "PH_DATABASE_AWAY",
      `No process holds ${place.description} now. Start the application, or open the database again to hold it.`,
      { database: place.description },
    );
  }
  return SharedConnection.open(holder.socket, place.description, settings.statementTimeoutMs);
}

/** Opens and holds; what was begun is undone when a later step fails. */
async function own(place: Place, settings: Settings, load: LoadPglite): Promise<Database> {
  const undo: (() => Promise<unknown>)[] = [];
  const undoAll = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const path = await socketPath(place);
    const server = await EmbeddedServer.listen(path);
    undo.push(() => rm(path, { force: true }));
    undo.push(() => server.close());
    const lock = await takeLock(place.run, place.description, path);
    undo.splice(0, 0, () => lock.release());
    const pglite = await openPglite(place, await load());
    undo.splice(1, 0, () => pglite.close());
    const database = new PgliteDatabase(pglite, place.description, settings, undoAll);
    server.serve(database);
    return database;
  } catch (error) {
    await undoAll();
    throw databaseError(error, { description: place.description });
  }
}

async function openPglite(place: Place, driver: typeof import("@electric-sql/pglite")): Promise<PGlite> {
  if (!(await exists(place.data))) {
    const draft = join(place.folder, "data.new");
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { mode: 0o700 });
    const fresh = await driver.PGlite.create(draft);
    await fresh.close();
    await rename(draft, place.data);
  }
  return driver.PGlite.create(place.data, { relaxedDurability: false });
}

/** In the folder, or, where that path is too long for a socket, in a folder of this user's among the temporary files. */
async function socketPath(place: Place): Promise<string> {
  const unique = randomBytes(4).toString("hex");
  const inFolder = join(place.run, `s.${unique}`);
  if (Buffer.byteLength(inFolder) <= databaseDefaults.socketPathBytes) return inFolder;
  const user = process.getuid?.() ?? 0;
  const folder = join(tmpdir(), `posthorn-${user}`);
  await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
    if (codeOf(error) !== "EEXIST") throw error;
  });
  // Somebody else may have made a folder of that name, to listen in our place.
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== user || (found.mode & 0o077) !== 0) {
    throw new DatabaseRefusedError(
      "PH_DATABASE_REFUSED",
      `${folder} is not a private folder of this user, and the path of ${place.description} is too long for a socket. ` +
        "Remove that folder or choose a shorter path.",
      { folder },
    );
  }
  const hash = createHash("sha256").update(place.folder).digest("hex").slice(0, 12);
  return join(folder, `${hash}.${unique}`);
}
