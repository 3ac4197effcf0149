/** `posthorn dev`: runs the configuration in a process of its own, restarts it at each change, and catches mails and webhooks. */
import { existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ConfigurationError } from "../../core/errors.js";
import { configNames, findConfig } from "../config.js";
import { bounds } from "../dev/bounds.js";
import { Caught } from "../dev/caught.js";
import type { Tell } from "../dev/events.js";
import { catchMail, type MailCatcher, mailPackages } from "../dev/mail.js";
import { reportTo } from "../dev/report.js";
import { SourceWatcher } from "../dev/sources.js";
import { Supervisor } from "../dev/supervisor.js";
import { catchWebhooks, type WebCatcher } from "../dev/web.js";
import type { Io } from "../io.js";
import { flag, type Line, number, text, texts } from "../parse.js";

export async function dev(line: Line, io: Io, program: URL): Promise<number> {
  const file = fileOf(line);
  const embedded = embeddedOf(line);
  const folders = [dirname(file), ...texts(line, "also").map(existingFolder)];
  const { tell, close: closeReport } = reportTo(io, flag(line, "json"));
  const signals = listen();
  const caught = new Caught();
  const catchers = flag(line, "no-catch") ? {} : await openCatchers(line, caught, tell);
  const supervisor = new Supervisor({
    program,
    setup: { file, embedded, migrate: flag(line, "migrate"), everyMs: number(line, "every-ms") },
    env: environment(catchers, embedded, io),
    graceMs: number(line, "grace-ms"),
    tell,
    holds: (folder) => sources.ignore(folder),
  });
  const sources = new SourceWatcher(folders, texts(line, "ignore"), (files) => {
    tell({ event: "changed", files });
    supervisor.restart();
  });
  const { mail, web } = catchers;
  tell({
    event: "watching",
    file,
    folders,
    smtpUrl: mail?.url ?? null,
    webhookUrl: web?.hookUrl ?? null,
    pageUrl: web?.pageUrl ?? null,
  });
  supervisor.restart();
  const signal = await signals.first;
  tell({ event: "stopping", signal });
  sources.close();
  const inOrder = await Promise.race([supervisor.stop().then(() => true), signals.second.then(() => false)]);
  if (!inOrder) supervisor.kill();
  await Promise.race([Promise.all([mail?.close(), web?.close()]), signals.second]);
  tell({ event: "stopped" });
  closeReport();
  return inOrder ? 0 : 1;
}

function fileOf(line: Line): string {
  const given = text(line, "config");
  const file = given === undefined ? findConfig(process.cwd()) : resolve(given);
  if (file !== undefined && existsSync(file)) return file;
  throw new ConfigurationError(
    "PH_CONFIG_MISSING",
    file === undefined
      ? `No ${configNames.join(", ")} was found in ${process.cwd()} or above it. Write one that exports the instance as \`post\`, or pass --config <file>.`
      : `There is no file ${file}. Correct --config.`,
  );
}

function existingFolder(given: string): string {
  const folder = resolve(given);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return folder;
  throw new ConfigurationError("PH_ARGUMENT_INVALID", `--also names ${folder}, which is no folder. Correct it.`, {
    folder,
  });
}

function embeddedOf(line: Line): string | undefined {
  const folder = text(line, "embedded");
  return folder === undefined ? undefined : `embedded:${resolve(folder.replace(/^embedded:/, ""))}`;
}

interface Catchers {
  readonly mail?: MailCatcher | undefined;
  readonly web?: WebCatcher | undefined;
}

async function openCatchers(line: Line, caught: Caught, tell: Tell): Promise<Catchers> {
  const wanted = (option: string, usual: number) => {
    const asked = line.options.has(option);
    return { port: asked ? number(line, option) : usual, asked, option };
  };
  const mail = await catchMail(caught, wanted("mail-port", bounds.mailPort), ({ id, from, to, subject }) =>
    tell({ event: "mail", id, from, to, subject }),
  );
  if (mail === undefined) {
    tell({
      event: "notice",
      message: `Mails are not caught and SMTP_URL is left as it is. To catch them, run: npm install --save-dev ${mailPackages.join(" ")}`,
    });
  }
  const about = { smtpUrl: mail?.url ?? null };
  const web = await catchWebhooks(
    caught,
    wanted("web-port", bounds.webPort),
    about,
    ({ id, method, path, bytes, status }) => tell({ event: "webhook", id, method, path, bytes, status }),
  );
  return { mail, web };
}

/** In place of what these say here: in development nothing is to reach anybody. */
function environment({ mail, web }: Catchers, embedded: string | undefined, io: Io): Readonly<Record<string, string>> {
  return {
    ...(mail === undefined ? {} : { SMTP_URL: mail.url, SMTP_HOST: mail.host, SMTP_PORT: String(mail.port) }),
    ...(web === undefined ? {} : { WEBHOOK_URL: web.hookUrl }),
    ...(embedded === undefined ? {} : { DATABASE_URL: embedded }),
    ...(io.terminal && process.env.FORCE_COLOR === undefined ? { FORCE_COLOR: "1" } : {}),
  };
}

interface Signals {
  readonly first: Promise<string>;
  readonly second: Promise<string>;
}

function listen(): Signals {
  const waiting: ((signal: string) => void)[] = [];
  const first = new Promise<string>((resolve) => waiting.push(resolve));
  const second = new Promise<string>((resolve) => waiting.push(resolve));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => waiting.shift()?.(signal));
  return { first, second };
}
