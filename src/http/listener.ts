/** A web-standard handler as a listener of node:http. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { ConfigurationError } from "../core/errors.js";
import { consoleLogger } from "../core/logger.js";
import { checkOptions, type Fields } from "../core/options.js";
import { show } from "../core/show.js";
import { tellSeldom } from "./failures.js";

const lingerMs = 2_000;

export const listenerFields = {
  onError: {
    type: "custom",
    words: "a function of an error",
    doc: "Told of each error of the handler, which is answered 500. Without it the console is told, at most once a minute",
    check: readOnError,
  },
} as const satisfies Fields;

export interface ListenerOptions {
  readonly onError?: (error: unknown) => void;
}

/**
 * Makes a listener for `createServer` of node:http or node:https from a handler that takes a `Request` and answers with a `Response`.
 *
 * The body of a request is passed on as it arrives. Where the answer comes before the end of the body, the connection is closed after it, since
 * the rest is not read. A request that cannot be one is answered 400, and an error of the handler 500, without a word about it: that is for `onError`, or
 * for the console. It may be mounted in a framework: the path is the whole one, and where the body was read before, its bytes are taken from `rawBody` or `body`.
 *
 * Errors: `ConfigurationError`. A body that was read before and not kept is told to `onError` as one.
 */
export function listener(
  handler: (request: Request) => Promise<Response>,
  options: ListenerOptions = {},
): (incoming: IncomingMessage, outgoing: ServerResponse) => void {
  const { onError = tellSeldom(consoleLogger) } = checkOptions(options, listenerFields, "listener()");
  return (incoming, outgoing) => {
    answered(handler, incoming, onError)
      .then((response) => send(response, incoming, outgoing))
      .catch(() => outgoing.destroy());
  };
}

async function answered(
  handler: (request: Request) => Promise<Response>,
  incoming: IncomingMessage,
  onError: (error: unknown) => void,
): Promise<Response> {
  try {
    refuseRead(incoming);
    const request = requestOf(incoming);
    return request === undefined ? new Response(null, { status: 400 }) : await handler(request);
  } catch (error) {
    onError(error);
    return new Response(null, { status: 500 });
  }
}

async function send(response: Response, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer());
  const whole = incoming.complete;
  outgoing.writeHead(response.status, {
    ...Object.fromEntries(response.headers),
    ...(!whole && { connection: "close" }),
  });
  outgoing.end(incoming.method === "HEAD" ? undefined : body);
  if (!whole) linger(incoming);
}

/**
 * Reads on for a moment and drops what comes: a connection that is closed while the other side still writes takes the answer with it before it is
 * read there.
 */
function linger(incoming: IncomingMessage): void {
  const timer = setTimeout(() => incoming.destroy(), lingerMs);
  incoming.once("close", () => clearTimeout(timer));
  incoming.removeAllListeners("data");
  incoming.on("data", () => undefined);
  incoming.resume();
}

function readOnError(value: unknown, path: string): (error: unknown) => void {
  if (typeof value === "function") return (error) => void value(error);
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be a function, got ${show(value)}.`, { path });
}

/** Undefined for what cannot be one. */
function requestOf(incoming: IncomingMessage): Request | undefined {
  try {
    return toRequest(incoming);
  } catch {
    return undefined;
  }
}

/** What frameworks add: the path before a part of it was taken off, by Express and its kind; the bytes of a body that was read, alone or beside what was made of it. */
interface Mounted {
  readonly originalUrl?: unknown;
  readonly body?: unknown;
  readonly rawBody?: unknown;
}

function bytesOf({ body, rawBody }: Mounted): Uint8Array<ArrayBuffer> | undefined {
  return [rawBody, body].find((one): one is Uint8Array<ArrayBuffer> => one instanceof Uint8Array);
}

function toRequest(incoming: IncomingMessage & Mounted): Request {
  const { method = "GET", rawHeaders, url = "/", originalUrl } = incoming;
  const target = typeof originalUrl === "string" ? originalUrl : url;
  const headers = new Headers();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) headers.append(rawHeaders[i] ?? "", rawHeaders[i + 1] ?? "");
  // A path may begin with //, which would be a host if it was resolved.
  const whole = new URL(target.startsWith("/") ? `http://here${target}` : target, "http://here");
  if (hasNoBody(method)) return new Request(whole, { method, headers });
  const bytes = bytesOf(incoming);
  if (bytes !== undefined) return new Request(whole, { method, headers, body: bytes });
  const body = Readable.toWeb(incoming) as ReadableStream<Uint8Array>;
  return new Request(whole, { method, headers, body, duplex: "half" });
}

function hasNoBody(method: string | undefined): boolean {
  return method === undefined || method === "GET" || method === "HEAD";
}

/** Somebody would be told of a body that is empty, or of none at all, and look for the reason on the other side. */
function refuseRead(incoming: IncomingMessage & Mounted): void {
  if (!incoming.readableDidRead || hasNoBody(incoming.method) || bytesOf(incoming) !== undefined) return;
  throw new ConfigurationError(
    "PH_OPTION_INVALID",
    "The body of the request was read before it came to listener(). Mount it before what reads bodies, express.json() for instance, or keep their bytes as rawBody.",
  );
}
