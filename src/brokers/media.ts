/** What kind of data a media type names, and the text of bytes. */
import { Recent } from "./recent.js";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** "application/json" of "Application/JSON; charset=utf-8". */
function essence(mediaType: string): string {
  return (mediaType.split(";", 1)[0] ?? "").trim().toLowerCase();
}

export function isMediaType(given: string | undefined, wanted: string): boolean {
  return given !== undefined && essence(given) === wanted;
}

/** What is to be known of a media type. */
interface Media {
  readonly isJson: boolean;
  /** An event, or several, in a format of CloudEvents. */
  readonly isCloudEvents: boolean;
  /** Its data is text for sure. */
  readonly isText: boolean;
  readonly charset: string | undefined;
}

/** Types whose data is text for sure. Others may look like it by chance, and the next message does not. */
const textTypes =
  /^text\/|^application\/(?:xml|yaml|x-yaml|javascript|graphql|sql|toml|x-www-form-urlencoded)$|\+(?:xml|yaml)$/;

/** Types come again with each message. */
const known = new Recent<Media>();
let last: { readonly mediaType: string; readonly media: Media } | undefined;

function mediaOf(mediaType: string): Media {
  if (last?.mediaType === mediaType) return last.media;
  const media = known.get(mediaType) ?? known.keep(mediaType, lookedAt(mediaType));
  last = { mediaType, media };
  return media;
}

function lookedAt(mediaType: string): Media {
  const name = essence(mediaType);
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)"?/i.exec(mediaType)?.[1];
  return {
    isCloudEvents: mediaType.trim().toLowerCase().startsWith("application/cloudevents"),
    isJson: /^[^/]+\/(?:.+\+)?json$/.test(name),
    isText: textTypes.test(name) || charset !== undefined,
    charset,
  };
}

/** Data without a type is JSON: the JSON format says so, and for the other modes it is the only sensible guess. */
export function isJson(mediaType: string | undefined): boolean {
  return mediaType === undefined || mediaOf(mediaType).isJson;
}

export function isCloudEvents(mediaType: string): boolean {
  return mediaOf(mediaType).isCloudEvents;
}

export function isText(mediaType: string): boolean {
  return mediaOf(mediaType).isText;
}

/** Undefined: they are not text in the character set that the type names, or in UTF-8. */
export function textOf(bytes: Uint8Array, mediaType?: string): string | undefined {
  const charset = mediaType === undefined ? undefined : mediaOf(mediaType).charset;
  try {
    return (charset === undefined ? utf8 : new TextDecoder(charset, { fatal: true })).decode(bytes);
  } catch {
    return undefined;
  }
}
