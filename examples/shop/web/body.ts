/** Reads the body of a request: JSON that fits a schema, or a problem. */
import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { Problem, wrongFields } from "./problem.js";

const maxBytes = 16_384;

export async function readJson<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const type = request.headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    const accept = request.method === "POST" ? { "accept-post": "application/json" } : {};
    throw new Problem(415, "The body must be application/json.", { headers: accept });
  }
  const checked = schema.safeParse(parse(await readBytes(request)));
  if (!checked.success) throw wrongFields(checked.error);
  return checked.data;
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Problem(400, "The body is not JSON in UTF-8.");
  }
}

/** Goes on reading after a refusal, without keeping anything: a sender that is cut off would not see the answer. */
function readBytes(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxBytes) chunks.push(chunk);
      else reject(new Problem(413, `The body is larger than ${maxBytes} bytes.`));
    });
    request.on("end", () => resolve(Buffer.concat(chunks)));
    request.on("error", () => reject(new Problem(400, "The body ended too early.")));
  });
}
