/**
 * Answers probes and autoscalers over HTTP: a web-standard handler that mounts wherever `Request` and `Response` are known.
 *
 * It reads and changes nothing, names no payload and asks for no password; what it says of queues, their names and figures, is not for
 * strangers, so bind it where only the cluster reaches it.
 */
import { PosthornError } from "../core/errors.js";
import type { Post } from "../instance/post.js";

/** What the probes read of an instance. */
export type Probed = Pick<Post<unknown>, "service" | "ready" | "scaling">;

const paths = ["/health", "/ready", "/scaling"] as const;

/**
 * The handler for an instance. Paths are looked at by their end, so it can be mounted below any prefix.
 *
 * `GET …/health`: 200 as long as this process answers. `GET …/ready`: 200 when the database answers, its schema fits, and this process works where it was
 * started; else 503 and why. `GET …/scaling`: every queue and subscription with `workersWanted`; `?name=email` for one, whose `workersWanted` stands at
 * the top. Errors: none; 503 with code and message where the database cannot be asked, 404 for another path or name, 405 for another method.
 */
export function probes(post: Probed): (request: Request) => Promise<Response> {
  return async (request) => {
    const url = new URL(request.url);
    const path = paths.find((known) => url.pathname === known || url.pathname.endsWith(known));
    if (path === undefined) return answer(404, { error: { message: `Known paths are ${paths.join(", ")}.` } });
    if (request.method !== "GET" && request.method !== "HEAD") {
      return answer(405, { error: { message: "Probes are read with GET." } }, { allow: "GET, HEAD" });
    }
    try {
      if (path === "/health") return answer(200, { status: "ok", service: post.service });
      if (path === "/ready") return answer(200, { status: "ready", service: post.service, ...(await post.ready()) });
      return await scalingOf(post, url.searchParams.get("name"));
    } catch (error) {
      return answer(503, { status: "not ready", service: post.service, error: facts(error) });
    }
  };
}

async function scalingOf(post: Probed, name: string | null): Promise<Response> {
  const report = await post.scaling();
  if (name === null) return answer(200, report);
  const line = report.lines.find((one) => one.name === name);
  if (line === undefined) {
    const known = report.lines.map((one) => one.name).join(", ");
    const message = `No queue or subscription is called so. Known are: ${known || "none"}.`;
    return answer(404, { error: { code: "PH_NAME_UNKNOWN", message } });
  }
  return answer(200, {
    ...line,
    at: report.at,
    alerts: report.alerts.filter(({ subscription }) => subscription === name),
  });
}

/** The message of an error of ours holds no password; that of another may. */
function facts(error: unknown): object {
  if (error instanceof PosthornError) return { code: error.code, message: error.message, retryable: error.retryable };
  return { code: "PH_INTERNAL", message: "An unexpected error; see the log of the process." };
}

function answer(status: number, body: object, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${JSON.stringify(body)}\n`, {
    status,
    headers: { "content-type": "application/json; charset=utf-8", "cache-control": "no-store", ...headers },
  });
}
