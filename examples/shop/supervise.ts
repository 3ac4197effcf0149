/**
 * Runs the shop as a child process and starts it again when it is killed or crashes.
 *
 * The first start has to succeed: a wrong DATABASE_URL is told once, not again and again. Later ones may fail a few times in a row.
 * However this process ends, the shop does not outlive it: it notices that its channel is closed, and closes in order.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("main.js", import.meta.url));

/** A life that is shorter counts as a failure to start. */
const shortMs = 3_000;
/** So many in a row, and starting again does not help. */
const mostShort = 5;

let child: ChildProcess | undefined;
let port = process.env.PORT;
let ending = false;
let wakeUp = (): void => undefined;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    ending = true;
    child?.kill(signal);
    wakeUp();
  });
}

process.exitCode = await supervise();

async function supervise(): Promise<number> {
  let short = 0;
  for (let life = 1; ; life += 1) {
    const { opened, livedMs, code, signal } = await live();
    if (ending || code === 0) return code ?? 1;
    // What went wrong was printed by the shop itself.
    if (life === 1 && !opened) return code ?? 1;
    short = opened && livedMs >= shortMs ? 0 : short + 1;
    const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    if (short >= mostShort) {
      console.error(`The shop ${how}, ${short} times in a row soon after its start. It is not started again.`);
      return 1;
    }
    console.error(`The shop ${how}; it is started again.`);
    await rest(short < 2 ? 0 : 250 * 2 ** short);
    if (ending) return 1;
  }
}

interface Life {
  readonly opened: boolean;
  readonly livedMs: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

async function live(): Promise<Life> {
  const began = performance.now();
  let opened = false;
  const running = fork(main, { env: { ...process.env, ...(port === undefined ? {} : { PORT: port }) } });
  child = running;
  running.on("message", (message) => {
    if (typeof message !== "object" || message === null || !("open" in message)) return;
    opened = true;
    // The next life is to be found where this one was.
    port = String(message.open);
  });
  const [code, signal] = (await once(running, "exit")) as [number | null, NodeJS.Signals | null];
  child = undefined;
  return { opened, livedMs: performance.now() - began, code, signal };
}

function rest(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wakeUp = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
