/** Says what happens in `posthorn dev`: as lines of JSON, as words with a status below them, or as words alone. */
import { relative } from "node:path";
import type { ErrorGroup } from "../../store/operate.js";
import { type Look, statusText } from "../commands/status.js";
import { type Io, oneLine, paint } from "../io.js";
import { clock, errorInWords, grouped, plural } from "../words.js";
import type { DevEvent, Tell } from "./events.js";
import { Screen } from "./screen.js";

export interface Report {
  readonly tell: Tell;
  close(): void;
}

export function reportTo(io: Io, json: boolean): Report {
  if (json) return { tell: (event) => io.out(`${JSON.stringify(event)}\n`), close: () => undefined };
  const words = new Words(io);
  return { tell: (event) => words.tell(event), close: () => words.close() };
}

class Words {
  readonly #io: Io;
  readonly #screen: Screen;
  /** The line below the figures: what the process is doing. */
  #doing = "starts";
  #stopping = false;
  #look: Look | undefined;
  #failures: readonly ErrorGroup[] = [];
  #blind: string | undefined;
  /** What was said last about each queue, where nothing is redrawn. */
  readonly #saidOf = new Map<string, string>();

  constructor(io: Io) {
    this.#io = io;
    this.#screen = new Screen(io, () => process.stdout.rows ?? 24);
  }

  close(): void {
    this.#screen.end();
  }

  tell(event: DevEvent): void {
    if (event.event === "output") this.#output(event);
    else if (event.event === "status") this.#status(event.look, event.failures);
    else if (event.event === "blind") this.#notLooked(event.reason);
    else this.#happened(event);
  }

  /** On a terminal both streams end in the same place; elsewhere whoever separates them keeps them apart. */
  #output({ stream, text }: DevEvent & { event: "output" }): void {
    if (stream === "stderr" && !this.#screen.redraws) this.#io.err(`${text}\n`);
    else this.#screen.line(text);
  }

  #happened(event: DevEvent): void {
    this.#doing = doingAfter(event) ?? this.#doing;
    this.#stopping ||= event.event === "stopping";
    for (const line of linesOf(event, this.#io)) this.#say(line);
    if (event.event === "stopped") this.#screen.end();
    else this.#redraw();
  }

  #say(line: string): void {
    this.#screen.line(`${paint(this.#io, "dim", "posthorn:")} ${line}`);
  }

  #status(look: Look, failures: readonly ErrorGroup[]): void {
    [this.#look, this.#failures, this.#blind] = [look, failures, undefined];
    if (this.#screen.redraws) this.#redraw();
    else this.#sayChanges(look, failures);
  }

  #notLooked(reason: string): void {
    const isNew = this.#blind !== reason;
    this.#blind = reason;
    if (this.#screen.redraws) this.#redraw();
    else if (isNew) this.#say(`the queues cannot be looked at: ${oneLine(reason)}`);
  }

  #redraw(): void {
    if (!this.#screen.redraws) return;
    const figures = this.#look === undefined ? [] : [statusText(this.#look, this.#io).trimEnd()];
    const failures = this.#failures.length === 0 ? [] : ["", ...this.#failures.slice(0, 5).map(failureInWords)];
    const blind =
      this.#blind === undefined ? [] : [paint(this.#io, "yellow", `not up to date: ${oneLine(this.#blind)}`)];
    const doing = paint(
      this.#io,
      "bold",
      `posthorn dev ${this.#doing}; Ctrl-C ${this.#stopping ? "ends it at once" : "stops it"}`,
    );
    this.#screen.block(["", ...figures, ...failures, ...blind, doing].join("\n"));
  }

  #sayChanges(look: Look, failures: readonly ErrorGroup[]): void {
    for (const line of look.lines) {
      const { name, backlog, running, retrying, deadLetters, invalid, workers } = line;
      const figures = `${grouped(backlog)} waiting, ${grouped(running)} running, ${grouped(retrying)} retrying, ${grouped(deadLetters)} dead, ${grouped(invalid)} invalid, ${plural(workers, "worker")}`;
      const failed = failures.find(({ subscription }) => subscription === name);
      const last = failed === undefined ? "" : `; last failure ${errorInWords(failed)}`;
      this.#sayOnce(name, `${figures}${last}`);
    }
    const open = look.alerts.map(({ subscription, alert }) => `${alert} of ${subscription}`);
    this.#sayOnce("alerts", open.length === 0 ? "none open" : `open: ${open.join(", ")}`, "none open");
  }

  #sayOnce(about: string, words: string, before?: string): void {
    if ((this.#saidOf.get(about) ?? before) !== words) this.#say(`${about}: ${words}`);
    this.#saidOf.set(about, words);
  }
}

function failureInWords(group: ErrorGroup): string {
  const { subscription, count, lastSeen, example } = group;
  const last = clock(lastSeen, new Date().toISOString());
  return `${subscription}: ${errorInWords(group)} (${plural(count, "time")}, last at ${last}; posthorn why ${example})`;
}

/** Undefined when it goes on doing the same. */
function doingAfter(event: DevEvent): string | undefined {
  switch (event.event) {
    case "loaded":
      return `starts ${event.service}`;
    case "started":
      return `works on ${event.worksOn.join(", ") || "nothing"}, pid ${event.pid}`;
    case "changed":
      return "restarts";
    case "failed":
    case "ended":
      return event.againInMs === null ? "waits for a change" : "starts again";
    case "stopping":
      return "lets running handlers finish";
    default:
      return undefined;
  }
}

function again(ms: number | null): string {
  if (ms === null) return "waits for a change";
  return ms === 0 ? "starts again" : `starts again in ${ms / 1_000} s`;
}

function linesOf(event: DevEvent, io: Io): readonly string[] {
  switch (event.event) {
    case "watching":
      return watchingLines(event);
    case "notice":
      return [paint(io, "yellow", event.message)];
    case "loaded":
      return [`${event.service} uses ${event.database}`];
    case "started":
      return [paint(io, "green", `works on ${event.worksOn.join(", ") || "nothing"} (pid ${event.pid})`)];
    case "changed":
      return [`changed ${event.files.slice(0, 5).map(shortly).join(", ")}${andMore(event.files.length - 5)}: restarts`];
    case "failed":
      return [paint(io, "red", `${visible(event.message)} (${event.code})`), again(event.againInMs)];
    case "ended":
      return [paint(io, "red", endedInWords(event)), again(event.againInMs)];
    case "mail":
      return [`mail to ${oneLine(event.to.join(", "))}: ${oneLine(event.subject) || "(no subject)"}`];
    case "webhook":
      return [
        `webhook ${oneLine(event.method, 20)} ${oneLine(event.path)}, ${plural(event.bytes, "byte")}, answered ${event.status}`,
      ];
    case "stopping":
      return [`${event.signal}: lets running handlers finish`];
    case "stopped":
      return ["stopped"];
    default:
      return [];
  }
}

function watchingLines({ file, folders, smtpUrl, webhookUrl, pageUrl }: DevEvent & { event: "watching" }) {
  return [
    `runs ${shortly(file)} and watches ${folders.map((folder) => shortly(folder)).join(", ")}`,
    ...(smtpUrl === null ? [] : [`SMTP_URL     ${smtpUrl}`]),
    ...(webhookUrl === null ? [] : [`WEBHOOK_URL  ${webhookUrl}`]),
    ...(pageUrl === null ? [] : [`caught       ${pageUrl}`]),
  ];
}

function endedInWords({ pid, code, signal }: DevEvent & { event: "ended" }): string {
  if (signal !== null) return `the process (pid ${pid}) was killed with ${signal}`;
  if (code === 0) return `the process (pid ${pid}) ended by itself`;
  return `the process (pid ${pid}) crashed with exit code ${code}`;
}

function andMore(count: number): string {
  return count > 0 ? ` and ${count} more` : "";
}

/** From here, where that is shorter. */
function shortly(path: string): string {
  const near = relative(process.cwd(), path) || ".";
  return near.length < path.length ? near : path;
}

/** Several lines stay several; what a terminal obeys goes. */
function visible(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/[\p{Cc}\p{Cf}]/gu, " ").trimEnd())
    .join("\n");
}
