/** Addresses and attachments of a parsed mail, as they are shown. */
import type { Mail } from "./caught.js";

export interface AddressLike {
  readonly name?: string | undefined;
  readonly address?: string | undefined;
}

export function addressesOf(list: readonly AddressLike[]): readonly string[] {
  return list.map(({ name, address = "" }) => (name ? `${name} <${address}>` : address));
}

export function attachmentOf(part: {
  readonly filename: string | null;
  readonly mimeType: string;
  readonly content: unknown;
}): Mail["attachments"][number] {
  const { filename, mimeType, content } = part;
  const bytes = content instanceof ArrayBuffer || content instanceof Uint8Array ? content.byteLength : 0;
  return { name: filename ?? "without a name", type: mimeType, bytes };
}
