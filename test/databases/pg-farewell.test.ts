import { createServer, type Server } from "node:net";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";

/** One message of the protocol: a letter, the length with itself, the content. */
function packet(letter: string, content: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length + 4);
  return Buffer.concat([Buffer.from(letter), length, content]);
}

const welcome = Buffer.concat([packet("R", Buffer.alloc(4)), packet("Z", Buffer.from("I"))]);
const farewell = packet("E", Buffer.from("SFATAL\0VFATAL\0C57P01\0Mthe server shuts down\0\0"));

let server: Server;
let url: string;
beforeEach(async () => {
  server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(Buffer.concat([welcome, farewell])));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  url = `postgres://somebody@127.0.0.1:${address.port}/somewhere`;
});
afterEach(() => new Promise<void>((resolve) => server.close(() => resolve())));

// The pool takes its error listener away when it gives a client. As long as clients were awaited, they had no listener when the rest of
// the same packet was read, and its error ended the process: here the test run, as an uncaught error.
test("a server that ends a connection in the packet that completes it fails the call, not the process", async () => {
  const owned = await openDatabase(url);
  await expect(owned.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
  await expect(owned.begin()).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
  await owned.close();

  const pool = new pg.Pool({ connectionString: url });
  const given = await openDatabase(pool);
  await expect(given.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
  await given.close();
  await pool.end();
});
