/**
 * Runs the shop and what belongs to it as child processes, and starts each again when it is killed or crashes: the message broker, the shop, and the
 * shipping department, which is a service of its own.
 *
 * The first start has to succeed: a wrong DATABASE_URL is told once, not again and again. Later ones may fail a few times in a row.
 * However this process ends, no child outlives it: each notices that its channel is closed, and closes in order.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A life that is shorter counts as a failure to start. */
const shortMs = 3_000;
/** So many in a row, and starting again does not help. */
const mostShort = 5;

interface Life {
  readonly opened: boolean;
  readonly livedMs: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

class Program {
  readonly #what: string;
  readonly #file: string;
  readonly #env: () => NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #ending = false;
  #wakeUp = (): void => undefined;
  #opened: (port: unknown) => void = () => undefined;
  /** What it told when it was open for the first time: its port, where it has one. */
  readonly opened: Promise<unknown>;
  onMessage: (message: object) => void = () => undefined;
  onOpen: (value: unknown) => void = () => undefined;

  constructor(what: string, file: string, env: () => NodeJS.ProcessEnv) {
    this.#what = what;
    this.#file = fileURLToPath(new URL(file, import.meta.url));
    this.#env = env;
    this.opened = new Promise((resolve) => {
      this.#opened = resolve;
    });
  }

  tell(message: object): void {
    if (this.#child?.connected) this.#child.send(message);
  }

  end(signal: NodeJS.Signals): void {
    this.#ending = true;
    this.#child?.kill(signal);
    this.#wakeUp();
  }

  /** Until it ends by itself or is ended; its exit code. */
  async run(): Promise<number> {
    let short = 0;
    for (let life = 1; !this.#ending; life += 1) {
      const { opened, livedMs, code, signal } = await this.#live();
      if (this.#ending || code === 0) return code ?? 1;
      // What went wrong was printed by the program itself.
      if (life === 1 && !opened) return code ?? 1;
      short = opened && livedMs >= shortMs ? 0 : short + 1;
      const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
      if (short >= mostShort) {
        console.error(`${this.#what} ${how}, ${short} times in a row soon after its start. It is not started again.`);
        return 1;
      }
      console.error(`${this.#what} ${how}; it is started again.`);
      await this.#rest(short < 2 ? 0 : 100 * 2 ** short);
    }
    return 1;
  }

  async #live(): Promise<Life> {
    const began = performance.now();
    let opened = false;
    const running = fork(this.#file, { env: { ...process.env, ...this.#env() } });
    this.#child = running;
    running.on("message", (message) => {
      if (typeof message !== "object" || message === null) return;
      if ("open" in message) {
        opened = true;
        this.#opened(message.open);
        this.onOpen(message.open);
      }
      this.onMessage(message);
    });
    const [code, signal] = (await once(running, "exit")) as [number | null, NodeJS.Signals | null];
    this.#child = undefined;
    return { opened, livedMs: performance.now() - began, code, signal };
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** The next life of each is to be found where the one before was. */
const ports: { shop?: string; broker?: string } = { ...(process.env.PORT && { shop: process.env.PORT }) };
const addresses = () => ({
  ...(ports.shop !== undefined && { PORT: ports.shop }),
  ...(ports.broker !== undefined && { BROKER: `mqtt://127.0.0.1:${ports.broker}` }),
});
const broker = new Program("The broker", "broker/main.js", () => ({
  ...(ports.broker !== undefined && { BROKER_PORT: ports.broker }),
}));
const shop = new Program("The shop", "main.js", addresses);
const shipping = new Program("The shipping department", "shipping/main.js", addresses);

/** The switch of the page. A broker that is started again is told as well. */
let standing: object | undefined;
shop.onMessage = (message) => {
  if (!("broker" in message)) return;
  standing = message;
  broker.tell(message);
};
shop.onOpen = (port) => {
  ports.shop = String(port);
};
broker.onOpen = (port) => {
  ports.broker = String(port);
  if (standing !== undefined) broker.tell(standing);
};

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    shop.end(signal);
    shipping.end(signal);
  });
}

process.exitCode = await supervise();

/** The shop decides: when it is closed, everything is. The broker goes last, so that the others can still say what they have to say. */
async function supervise(): Promise<number> {
  const brokering = broker.run();
  const first = await Promise.race([broker.opened.then(() => undefined), brokering]);
  if (first !== undefined) return first;
  const sending = shipping.run();
  const code = await shop.run();
  shipping.end("SIGTERM");
  await sending;
  broker.end("SIGTERM");
  await brokering;
  return code;
}
