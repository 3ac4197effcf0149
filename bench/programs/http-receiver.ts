/** A receiver of webhooks that answers at once and keeps nothing. */
import { once } from "node:events";
import { createServer } from "node:http";
import { serve, settings } from "./serve.js";

export interface HttpReceiverCalls {
  readonly port: (input: undefined) => number;
}

const server = createServer((request, response) => {
  request.resume();
  request.once("end", () => response.writeHead(204).end());
});
server.listen(settings<{ port: number }>().port, "127.0.0.1");
await once(server, "listening");
const address = server.address();
const port = typeof address === "object" && address !== null ? address.port : 0;
serve<HttpReceiverCalls>({ port: () => port });
