/**
 * Goal: the answer 204, which is the usual one and whose body is not read, costs nothing but its connection when there is a body all the same.
 * Method: answers written by hand to a socket; one connection, so that each webhook needs what the one before has left of it.
 */
import type { Socket } from "node:net";
import { expect, test } from "vitest";
import type { Sender } from "../../../src/brokers/broker.js";
import { message, open, sendOne, serveTcp } from "./places.js";

const answer = (...headers: readonly string[]) => `${["HTTP/1.1 204 No Content", ...headers].join("\r\n")}\r\n\r\n`;

/** A receiver that does so with each request. `count` is of connections; one of them is to look whether somebody is there. */
async function answering(then: (socket: Socket) => void): Promise<{ readonly sender: Sender; count(): number }> {
  let connections = 0;
  const url = await serveTcp((socket) => {
    connections += 1;
    socket.on("data", () => then(socket));
  });
  return { sender: await open(url, { connections: 1 }), count: () => connections };
}

async function acknowledgesThree(sender: Sender): Promise<void> {
  for (const id of ["1", "2", "3"]) expect(await sendOne(sender, message(id))).toEqual({ kind: "acknowledged" });
}

test.each(["content-length: 1073741824", "transfer-encoding: chunked", "connection: close"])(
  "with %s and a body without end is the answer, and the body is not read",
  async (header) => {
    const { sender, count } = await answering((socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write(`10000\r\n${"x".repeat(65_536)}\r\n`));
      };
      socket.write(answer(header));
      socket.on("drain", more);
      more();
    });
    await acknowledgesThree(sender);
    expect(count()).toBe(4);
  },
);

test.each(["content-length: 5", "transfer-encoding: chunked"])(
  "with %s and nothing behind it is whole, and its connection is used again",
  async (header) => {
    const { sender, count } = await answering((socket) => void socket.write(answer(header)));
    await acknowledgesThree(sender);
    expect(count()).toBe(2);
  },
);

test("twice for one webhook is not the answer for the next one", async () => {
  let asked = 0;
  const { sender, count } = await answering((socket) => {
    asked += 1;
    socket.write(answer().repeat(2));
  });
  for (const id of [1, 2, 3]) {
    expect(await sendOne(sender, message(String(id)))).toEqual({ kind: "acknowledged" });
    expect(asked).toBe(id);
  }
  expect(count()).toBe(4);
});

test("behind answers that tell of it is the answer", async () => {
  const { sender } = await answering((socket) => {
    const before = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    socket.write(`HTTP/1.1 100 Continue\r\n\r\n${before}${before}${answer()}`);
  });
  await acknowledgesThree(sender);
});
