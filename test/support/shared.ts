/** Asks the main process of the test run for something that the whole run shares; the first who asks has it made. */
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { inject } from "vitest";
import type { SharedName, SharedReply } from "./global-setup.js";

export async function shared(name: SharedName): Promise<string> {
  const socket = connect(inject("posthorn:shared"), "127.0.0.1");
  socket.write(`${name}\n`);
  const reply = JSON.parse(await text(socket)) as SharedReply;
  if ("error" in reply) throw new Error(reply.error);
  return reply.value;
}
