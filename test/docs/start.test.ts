/**
 * Goal: whoever follows docs/start to the letter gets what it says.
 * Method: its blocks are taken in order. Files are written, commands are run in a project with the packed package, and what is printed
 * is compared. `node` runs TypeScript through jiti, as the page says for Node 20; `npx` runs what is installed.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { root } from "../architecture/sources.js";
import { createProject, install, type Project } from "../package/installed.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { type Block, readPage } from "./pages.js";

const jiti = join(root, "node_modules/jiti/lib/jiti-cli.mjs");
const dieWithParent = new URL("../support/die-with-parent.mjs", import.meta.url).href;
const timeout = 60_000;
const node = process.env.POSTHORN_TEST_NODE ?? process.execPath;

interface Worker {
  printed(): string;
  stop(): Promise<void>;
}

class Reader {
  readonly #project: Project;
  readonly #env: NodeJS.ProcessEnv;
  readonly files = new Set<string>();

  constructor(project: Project, env: NodeJS.ProcessEnv) {
    this.#project = project;
    this.#env = env;
  }

  /** Writes the files that come before the next commands, and returns these. The compiler has nothing to say of the files. */
  async until(blocks: Block[]): Promise<readonly string[]> {
    for (let block = blocks.shift(); block !== undefined; block = blocks.shift()) {
      const file = block.mark?.match(/^file (\S+)$/)?.[1];
      if (file !== undefined) {
        await this.#project.write(file, block.text);
        this.files.add(file);
      } else if (block.mark === "run") {
        const options = ["--noEmit", "--allowImportingTsExtensions", "--types", "node", "--skipLibCheck"];
        expect(await this.#project.compile(...options, ...this.files)).toBe("");
        return block.text.trim().split("\n");
      }
    }
    throw new Error("The page has no further commands.");
  }

  /** What a command prints; it ends well, or this rejects. */
  async run(line: string | undefined): Promise<string> {
    const { stdout } = await promisify(execFile)(node, this.#words(line), { ...this.#where, timeout });
    return stdout;
  }

  start(line: string | undefined): Worker {
    const args = ["--import", dieWithParent, ...this.#words(line)];
    const child: ChildProcess = spawn(node, args, { ...this.#where, stdio: ["ignore", "pipe", "pipe", "ipc"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (printed += text));
    const exited = once(child, "exit");
    const stop = async (): Promise<void> => {
      child.kill("SIGINT");
      expect(await exited).toEqual([0, null]);
    };
    return { printed: () => printed, stop };
  }

  get #where() {
    return { cwd: this.#project.folder, env: this.#env };
  }

  #words(line = ""): readonly string[] {
    const [program, first = "", ...rest] = line.split(" ");
    if (program === "node") return [jiti, first, ...rest];
    if (program === "npx") return [join(this.#project.folder, "node_modules/.bin", first), ...rest];
    throw new Error(`The test cannot run: ${line}`);
  }
}

test("the start page leads from an empty folder to a queue, an outbox on a server, and the reason of a failure", async () => {
  const { text, blocks: all } = readPage("docs/start/README.md");
  const blocks = [...all];
  const project = await createProject();
  onTestFinished(project.remove);
  const installs = [...text.matchAll(/^npm install (.+)$/gm)].map(([, packages]) => packages);
  expect(installs).toEqual(["posthorn @electric-sql/pglite", "pg"]);
  await install(project, `npm install ${installs.join(" ")}`);
  // Types of Node for the compiler, and what reads the configuration on Node 20.
  await symlink(join(root, "node_modules/@types"), join(project.folder, "node_modules/@types"));
  await symlink(join(root, "node_modules/jiti"), join(project.folder, "node_modules/jiti"));

  const { DATABASE_URL: _given, ...env } = process.env;
  const embedded = new Reader(project, env);
  const [first] = await embedded.until(blocks);
  expect(await embedded.run(first)).toBe(blocks[0]?.text);

  const database = await createDatabase({ empty: true });
  onTestFinished(() => database.drop());
  const server = new Reader(project, { ...env, DATABASE_URL: database.url });
  const [migrate, check, start] = await server.until(blocks);
  expect(await server.run(migrate)).toMatch(/^Migrated /);
  expect(await server.run(check)).toBe("Nothing is wrong.\n");
  const worker = server.start(start);
  await eventually(() => worker.printed().includes("works on"), { withinMs: timeout });

  const [order] = await server.until(blocks);
  const orderId = (await server.run(order)).match(/^placed (\S+)\n$/)?.[1];
  await eventually(() => worker.printed().includes(`To ada@example.com: Your order ${orderId}\n`));

  const [fail] = await server.until(blocks);
  const id = (await server.run(fail)).trim();
  await eventually(() => worker.printed().includes("failed and is tried again"));
  const said = blocks.findIndex(({ language }) => language === "text");
  const why = blocks[said - 1]?.text.trim();
  expect(why).toMatch(/^npx posthorn why \S+$/);
  // The reader asks later or earlier than this test, so the time and the number of the attempt are theirs. In the moment of an attempt it runs.
  const theirs = (sentence: string | undefined) => sentence?.replace(/^\w+ attempt at [\d:]+/, "… attempt at …").trim();
  await eventually(async () =>
    expect(theirs(await server.run(why?.replace(/\S+$/, id)))).toBe(theirs(blocks[said]?.text)),
  );

  const [status, errors] = await server.until(blocks);
  expect(await server.run(status)).toContain("No alert is open.");
  expect(await server.run(errors)).toContain("no mail server takes ada@example.invalid");
  await worker.stop();
  expect(blocks.filter(({ mark }) => mark !== undefined)).toEqual([]);
}, 180_000);
