/**
 * What a statement says to the server, in one piece. pg gives the socket each message of the protocol by itself, and to gather a list of ten costs
 * the system more than the few bytes are worth.
 */
import type { Connection } from "pg";

/** Beyond it copying costs more than it saves. */
const longest = 65_536;

/** `write` says it to a connection that keeps it back. Returns what `write` returns; what it has said when it throws is sent all the same. */
export function inOnePiece<T>(connection: Connection, write: (to: Connection) => T): T {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const keep = (piece: Uint8Array): boolean => {
    pieces.push(piece);
    bytes += piece.length;
    return true;
  };
  const stream = { writable: connection.stream.writable, write: keep, cork: () => {}, uncork: () => {} };
  try {
    return write(Object.create(connection, { stream: { value: stream } }));
  } finally {
    // None where nothing was said, or the socket takes nothing any more.
    if (bytes > longest) sendAll(connection, pieces);
    else if (bytes > 0) connection.stream.write(Buffer.concat(pieces, bytes));
  }
}

function sendAll({ stream }: Connection, pieces: readonly Uint8Array[]): void {
  stream.cork();
  for (const piece of pieces) stream.write(piece);
  stream.uncork();
}
