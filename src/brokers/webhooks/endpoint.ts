/** Where webhooks are posted to: reads the URL, and refuses what may not be posted to before anything is opened. */
import { createHash } from "node:crypto";
import type { LookupAddress, LookupOptions } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { ConfigurationError } from "../../core/errors.js";
import { beginsWithScheme, isPort, outOfRange, whyUnreadable } from "../unreadable.js";
import { insideAddress } from "./addresses.js";

/** A URL that may be posted to. */
export interface Endpoint {
  readonly url: URL;
  /**
   * Scheme, host, port and a mark of what is behind them: what people are shown, and what tells one receiver from another at the same host. Path, query and
   * user may hold a token.
   */
  readonly where: string;
  /** Allowed by name: what it resolves to is not looked at. */
  readonly trusted: boolean;
}

export interface Allowed {
  readonly allowPrivate: readonly string[];
  readonly allowHttp: boolean;
}

/** Errors: `ConfigurationError` with the code `PH_BROKER_ADDRESS`. The URL is not in its message. */
export function endpointOf(text: string, { allowPrivate, allowHttp }: Allowed): Endpoint {
  const url = URL.canParse(text) && beginsWithScheme(text) ? new URL(text) : undefined;
  if (url === undefined) {
    refuse(`webhook().url ${whyUnreadable(text)}. It is not shown, since it may hold a token.`);
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    refuse(`webhook().url begins with ${url.protocol}, and must begin with https: or http:.`);
  }
  if (url.port !== "" && !isPort(Number(url.port))) refuse(`webhook().url ${outOfRange}.`);
  if (!isDecodable(url.username) || !isDecodable(url.password)) {
    refuse("webhook().url has a user or a password that is not percent-encoded. It is not shown.");
  }
  const host = hostOf(url);
  const origin = `${url.protocol}//${url.host}`;
  const trusted = allowPrivate.includes(host);
  // First, since what is allowed by it may have http: as well: who said `allowHttp` here would be refused once more.
  const inside = trusted ? undefined : insideHost(host);
  if (inside !== undefined) {
    refuse(
      `webhook().url: ${origin} is ${inside}. To post there all the same, say allowPrivate: [${JSON.stringify(host)}].`,
    );
  }
  if (url.protocol === "http:" && !trusted && !allowHttp) {
    refuse(
      `webhook().url: ${origin} is posted to in the clear, so that anybody between can read it. Use https, or say allowHttp: true.`,
    );
  }
  return { url, where: `${origin}${markOf(url)}`, trusted };
}

/** Too few letters to find a token by, or to leave less of it to guess. A password tells no receivers apart, and may be short: it is not in it. */
const markLength = 6;

/** Nothing for a host alone, whose root is posted to. */
function markOf({ username, pathname, search }: URL): string {
  const behind = `${pathname}${search}`;
  if (username === "" && behind === "/") return "";
  const mark = createHash("sha256").update(`${username}@${behind}`).digest("hex").slice(0, markLength);
  return `/…#${mark}`;
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function refuse(message: string): never {
  throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path: "webhook().url" });
}

/** Lower case, without the brackets of IPv6 and the dot at the end; numbers in other forms are addresses by now. */
export function hostOf(url: URL): string {
  return url.hostname
    .toLowerCase()
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "");
}

function insideHost(host: string): string | undefined {
  if (isIP(host) !== 0) return insideAddress(host);
  return host === "localhost" || host.endsWith(".localhost") ? "a name of this host" : undefined;
}

/**
 * Resolves with `lookup` and answers only with addresses that may be connected to. The connection is made to what it answers, without asking again,
 * so that a name cannot show one address to the check and another to the connection. One address on the inside is enough to refuse all.
 */
export function guarded(lookup: LookupFunction, { trusted, where }: Endpoint): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, answer, family) => {
      // Of one that is no `lookup` of Node: what it throws here would end the process.
      if (error) return callback(error, "");
      const addresses = listOf(answer, family);
      const problem = trusted ? undefined : problemOf(addresses, where);
      if (problem !== undefined) return callback(problem, "");
      answerWith(addresses, options, callback);
    });
  };
}

function listOf(answer: string | readonly LookupAddress[], family: number | undefined): readonly LookupAddress[] {
  if (typeof answer === "string") return [{ address: answer, family: family ?? isIP(answer) }];
  return Array.isArray(answer) ? answer.filter((one) => typeof one?.address === "string") : [];
}

function problemOf(addresses: readonly LookupAddress[], where: string): Error | undefined {
  for (const { address } of addresses) {
    const inside = insideAddress(address);
    if (inside === undefined) continue;
    return new ConfigurationError(
      "PH_BROKER_ADDRESS",
      `The name in ${where} resolves to ${address.slice(0, 60)}, ${inside}. Nothing was sent. If it belongs there, say allowPrivate with that name.`,
      { where },
    );
  }
  return undefined;
}

function answerWith(
  addresses: readonly LookupAddress[],
  options: LookupOptions,
  callback: Parameters<LookupFunction>[2],
): void {
  const [first] = addresses;
  if (first === undefined) callback(Object.assign(new Error("no address"), { code: "ENOTFOUND" }), "");
  else if (options.all === true) callback(null, [...addresses]);
  else callback(null, first.address, first.family);
}
