/** What kind of data a media type names, and the text of bytes. */

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** "application/json" of "Application/JSON; charset=utf-8". */
function essence(mediaType: string): string {
  return (mediaType.split(";", 1)[0] ?? "").trim().toLowerCase();
}

export function isMediaType(given: string | undefined, wanted: string): boolean {
  return given !== undefined && essence(given) === wanted;
}

/** Data without a type is JSON: the JSON format says so, and for the other modes it is the only sensible guess. */
export function isJson(mediaType: string | undefined): boolean {
  return mediaType === undefined || /^[^/]+\/(?:.+\+)?json$/.test(essence(mediaType));
}

/** Types whose data is text for sure. Others may look like it by chance, and the next message does not. */
const textTypes =
  /^text\/|^application\/(?:xml|yaml|x-yaml|javascript|graphql|sql|toml|x-www-form-urlencoded)$|\+(?:xml|yaml)$/;

export function isText(mediaType: string): boolean {
  return textTypes.test(essence(mediaType)) || charsetOf(mediaType) !== undefined;
}

function charsetOf(mediaType: string): string | undefined {
  return /;\s*charset\s*=\s*"?([^\s;"]+)"?/i.exec(mediaType)?.[1];
}

/** Undefined: they are not text in the character set that the type names, or in UTF-8. */
export function textOf(bytes: Uint8Array, mediaType?: string): string | undefined {
  const charset = mediaType === undefined ? undefined : charsetOf(mediaType);
  try {
    return (charset === undefined ? utf8 : new TextDecoder(charset, { fatal: true })).decode(bytes);
  } catch {
    return undefined;
  }
}
