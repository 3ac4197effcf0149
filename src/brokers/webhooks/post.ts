/**
 * Posts one webhook and tells what came back. Whatever the other side does, it ends: each phase has a time, and each answer a size.
 *
 * It never follows a redirect and takes no proxy from the environment: the connection goes to the address that was checked.
 */
import { once } from "node:events";
import {
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  Agent as PlainAgent,
  request as plain,
} from "node:http";
import { request as encrypted, Agent as TlsAgent } from "node:https";
import { connect as connectPlain, isIP, type LookupFunction } from "node:net";
import { connect as connectTls } from "node:tls";
import { limits } from "../../core/limits.js";
import { durationInWords } from "../../core/words.js";
import { decoded } from "./clean.js";
import type { Endpoint } from "./endpoint.js";
import { lostInWords } from "./lost.js";

export interface PostOptions {
  readonly endpoint: Endpoint;
  readonly lookup: LookupFunction;
  readonly connections: number;
  readonly keepAlive: boolean;
  readonly connectTimeoutMs: number;
  readonly timeoutMs: number;
  /** PEM: who is trusted beside or in place of the authorities that Node knows. */
  readonly ca?: string;
}

/** What came back. */
export type Posted =
  | {
      readonly kind: "answered";
      readonly status: number;
      readonly headers: IncomingHttpHeaders;
      /** The beginning of the body; empty for success, whose body nobody reads. */
      readonly text: string;
    }
  /**
   * No whole answer. `connected`: there was a way to the receiver, and it had the time for an answer. `begun`: something of the webhook may have arrived,
   * however short that time was.
   */
  | { readonly kind: "lost"; readonly error: Error; readonly connected: boolean; readonly begun: boolean };

/** Servers close idle connections, many after five seconds. This side does it before them, so that a webhook seldom meets one that is being closed. */
const idleMs = 4_000;

/** Whoever gives up a post before has not waited for it. */
const longMs = 4_000;

type Headers = Readonly<Record<string, string>>;

/** What is the same for each post. */
interface Target {
  readonly protocol: string;
  readonly hostname: string;
  readonly port: number;
  readonly path: string;
  /** Said, or Node looks for it each time. */
  readonly servername: string;
  /** The header, which Node leaves to whoever gives it a list. */
  readonly host: string;
  readonly authorization: string | undefined;
}

/** The connections to one endpoint, kept open for the next webhook. */
export class Poster {
  readonly #options: PostOptions;
  readonly #agent: PlainAgent;
  readonly #once: PlainAgent;
  readonly #target: Target;

  constructor(options: PostOptions) {
    this.#options = options;
    const { endpoint, connections: maxSockets, keepAlive, ca } = options;
    this.#target = targetAt(endpoint.url);
    const Agent = endpoint.url.protocol === "https:" ? TlsAgent : PlainAgent;
    // Said, so that no environment variable can say the contrary.
    const authority = { rejectUnauthorized: true, ...(ca !== undefined && { ca }) };
    const kept = { maxSockets, maxFreeSockets: maxSockets, timeout: idleMs, scheduling: "lifo" } as const;
    this.#agent = new Agent({ keepAlive, ...kept, ...authority });
    this.#once = new Agent({ keepAlive: false, ...authority });
  }

  /** Never throws. */
  async post(headers: Headers, body: Buffer, signal: AbortSignal): Promise<Posted> {
    const first = await this.#attempt(this.#agent, headers, body, signal);
    // A connection that was kept open may have been closed by the other side in this moment. A new one tells whether it is there at all.
    return first === "stale" ? notStale(await this.#attempt(this.#once, headers, body, signal)) : first;
  }

  /** Connects, and closes again. Errors: why there is no connection. */
  async connect(signal: AbortSignal): Promise<void> {
    const { endpoint, lookup, ca, connectTimeoutMs } = this.#options;
    const { protocol } = endpoint.url;
    const { hostname: host, port, servername } = this.#target;
    const name = servername === "" ? {} : { servername };
    const authority = ca === undefined ? {} : { ca };
    const socket =
      protocol === "https:"
        ? connectTls({ host, port, lookup, rejectUnauthorized: true, ...name, ...authority })
        : connectPlain({ host, port, lookup });
    const within = AbortSignal.timeout(connectTimeoutMs);
    try {
      await once(socket, protocol === "https:" ? "secureConnect" : "connect", {
        signal: AbortSignal.any([signal, within]),
      });
    } catch (error) {
      const why = within.aborted ? notConnected(connectTimeoutMs) : lostInWords(error).message;
      // An address that is refused now may be another one later: so it is never the error of a configuration.
      throw new Error(why.includes(endpoint.where) ? why : `There is no way to ${endpoint.where}. ${why}`);
    } finally {
      // A late error of a connection that nobody wants is nobody's.
      socket.on("error", () => undefined);
      socket.destroy();
    }
  }

  close(): void {
    this.#agent.destroy();
    this.#once.destroy();
  }

  #attempt(agent: PlainAgent, headers: Headers, body: Buffer, signal: AbortSignal): Promise<Posted | "stale"> {
    return new Promise((resolve) => {
      let request: ClientRequest;
      try {
        request = this.#open(agent, headers);
      } catch (error) {
        // A header that Node does not write.
        resolve({ kind: "lost", error: lostInWords(error), connected: false, begun: false });
        return;
      }
      new Exchange(request, this.#options, signal, resolve).start(body);
    });
  }

  /** A literal with these members alone: Node copies it three times for each post, and what was put together of others is copied slowly. */
  #open(agent: PlainAgent, given: Headers): ClientRequest {
    const { protocol, hostname, port, path, servername } = this.#target;
    const start = protocol === "https:" ? encrypted : plain;
    const headers = this.#headers(given);
    const { lookup } = this.#options;
    const maxHeaderSize = limits.webhookAnswerHeaderBytes;
    return start({
      protocol,
      hostname,
      port,
      path,
      method: "POST",
      lookup,
      maxHeaderSize,
      insecureHTTPParser: false,
      servername,
      headers,
      agent,
    });
  }

  /** As a list, which Node writes as it is; of an object it looks at each member twice. */
  #headers(given: Headers): string[] {
    const { host, authorization } = this.#target;
    const all = ["host", host];
    for (const name of Object.keys(given)) all.push(name, given[name] ?? "");
    if (authorization !== undefined && given.authorization === undefined) all.push("authorization", authorization);
    return all;
  }
}

function targetAt({ protocol, host, hostname, port, pathname, search, username, password }: URL): Target {
  const bare = hostname.replace(/^\[|\]$/g, "");
  const usual = protocol === "https:" ? 443 : 80;
  const user = `${decoded(username)}:${decoded(password)}`;
  return {
    protocol,
    hostname: bare,
    port: port === "" ? usual : Number(port),
    path: `${pathname}${search}`,
    servername: isIP(bare) === 0 && protocol === "https:" ? bare : "",
    host,
    authorization: username + password === "" ? undefined : `Basic ${Buffer.from(user).toString("base64")}`,
  };
}

function notConnected(ms: number): string {
  return `There was no connection within ${durationInWords(ms)}.`;
}

/** The first one was written to a connection that may have carried it. */
function notStale(posted: Posted | "stale"): Posted {
  if (posted === "stale") return { kind: "lost", error: lostInWords(undefined), connected: true, begun: true };
  return posted.kind === "lost" ? { ...posted, begun: true } : posted;
}

/** One request and its answer. */
class Exchange {
  readonly #request: ClientRequest;
  readonly #options: PostOptions;
  readonly #signal: AbortSignal;
  readonly #resolve: (posted: Posted | "stale") => void;
  readonly #timers: NodeJS.Timeout[] = [];
  /** It counts as one that had the time for an answer where it was on its way for long. */
  readonly #onAbort = (): void => {
    this.#connected &&= performance.now() - this.#since > Math.min(longMs, this.#options.timeoutMs / 2);
    this.#lose(new Error("It was given up."));
  };
  readonly #since = performance.now();
  #connected = false;
  #begun = false;
  /** There is a status: what happens to the connection from now on changes nothing. */
  #responded = false;
  #ended = false;

  constructor(
    request: ClientRequest,
    options: PostOptions,
    signal: AbortSignal,
    resolve: (posted: Posted | "stale") => void,
  ) {
    this.#request = request;
    this.#options = options;
    this.#signal = signal;
    this.#resolve = resolve;
  }

  start(body: Buffer): void {
    const request = this.#request;
    const { timeoutMs } = this.#options;
    this.#after(timeoutMs, () => {
      if (!this.#responded) this.#lose(new Error(`There was no answer within ${durationInWords(timeoutMs)}.`));
    });
    this.#signal.addEventListener("abort", this.#onAbort, { once: true });
    request.once("socket", (socket) => {
      if (!socket.connecting) {
        this.#onConnected();
        return;
      }
      const { connectTimeoutMs } = this.#options;
      const timer = this.#after(connectTimeoutMs, () => {
        if (!this.#connected) this.#lose(new Error(notConnected(connectTimeoutMs)));
      });
      const event = this.#options.endpoint.url.protocol === "https:" ? "secureConnect" : "connect";
      socket.once(event, () => {
        this.#onConnected();
        clearTimeout(timer);
      });
    });
    request.on("error", (error) => {
      if (!this.#responded) this.#lose(error);
    });
    // An answer that ends the protocol (101) closes without an error and without a response.
    request.once("close", () => {
      if (!this.#responded) this.#lose(undefined);
    });
    request.once("response", (response) => this.#answered(response));
    if (this.#signal.aborted) this.#onAbort();
    else request.end(body);
  }

  #onConnected(): void {
    this.#connected = true;
    this.#begun = true;
  }

  /** What came while this process was held up is read before: timers come before sockets. */
  #after(ms: number, then: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => setImmediate(then), ms);
    this.#timers.push(timer);
    return timer;
  }

  #lose(error: unknown): void {
    if (this.#ended) return;
    const stale = this.#request.reusedSocket && isReset(error);
    this.#end(
      stale ? "stale" : { kind: "lost", error: lostInWords(error), connected: this.#connected, begun: this.#begun },
    );
    this.#request.destroy();
  }

  #end(posted: Posted | "stale"): void {
    this.#ended = true;
    this.#clear();
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#resolve(posted);
  }

  #clear(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #answered(response: IncomingMessage): void {
    const { statusCode: status = 0, headers } = response;
    this.#responded = true;
    this.#clear();
    const end = (text: string): void => {
      if (!this.#ended) this.#end({ kind: "answered", status, headers, text });
    };
    // The status is the acknowledgement; the rest is read so that the connection can be used again.
    if (status >= 200 && status < 300) end("");
    if (status === 204) response.resume();
    else readBeginning(response).then(end);
  }
}

function isReset(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ECONNRESET" || code === "EPIPE";
}

/** Reads an answer to its end, or to a limit of bytes or time, where it closes the connection. Never throws. */
function readBeginning(response: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const end = (): void => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks).subarray(0, limits.webhookAnswerBytes).toString());
    };
    const stop = (): void => {
      end();
      response.destroy();
    };
    const timer = setTimeout(stop, limits.webhookAnswerMs);
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > limits.webhookAnswerBytes) stop();
    });
    response.once("end", end);
    response.on("error", end);
    response.once("close", end);
  });
}
