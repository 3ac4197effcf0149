/** Where in the user's files an error of loading comes from: what its message often does not say. */
import { execFile } from "node:child_process";
import { relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** A file with its line. A stack names files as paths or as URLs; Node's own begin with `node:`. */
const place = /(?:^|[\s(])((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/])[^\n]*?):(\d+)(?::\d+)?\)?$/m;
/** How long a second look at a file that does not parse may take. */
const patienceMs = 10_000;

/** Ours: a refused option is wrong where it was given. */
const own = fileURLToPath(new URL("..", import.meta.url));

/** " (src/handlers.ts:12)", from the current folder; nothing when it is not known or stands in the message already. */
export async function whereOf(error: unknown, file: string): Promise<string> {
  if (!(error instanceof Error) || place.test(error.message) || error.message.includes("imported from")) return "";
  const found = inStack(error) ?? (error instanceof SyntaxError ? await bySecondLook(file) : undefined);
  return found === undefined ? "" : ` (${found})`;
}

function inStack(error: Error): string | undefined {
  const frames = (error.stack ?? "")
    .split("\n")
    .filter((line) => !line.includes("node_modules") && !line.includes(own));
  const found = frames.map((line) => place.exec(line)).find((one) => one !== null);
  return found === undefined ? undefined : named(found);
}

/** Node tells the line of a module that does not parse only where it prints the error itself. Such a module has not run. */
async function bySecondLook(file: string): Promise<string | undefined> {
  const program = `await import(${JSON.stringify(pathToFileURL(file).href)})`;
  const printed = await new Promise<string>((resolve) => {
    const args = ["--input-type=module", "--eval", program];
    execFile(process.execPath, args, { timeout: patienceMs }, (_error, _out, err) => resolve(err));
  });
  const found = /^((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/]).*):(\d+)$/m.exec(printed);
  return found === null ? undefined : named(found);
}

function named([, path = "", line = ""]: readonly string[]): string {
  const plain = path.startsWith("file://") ? fileURLToPath(path.replace(/\?.*$/, "")) : path;
  const near = relative(process.cwd(), plain);
  return `${near.startsWith("..") ? plain : near}:${line}`;
}
