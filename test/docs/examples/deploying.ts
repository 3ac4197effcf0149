/** What the guide about deploying shows. */
import { createServer } from "node:http";
import { command, policies, posthorn, type } from "posthorn";
import { probes } from "posthorn/http";

export const SendEmail = command("SendEmail", { queue: "email", schema: type<{ to: string }>() });

export function behindPooler(url: string) {
  const post = posthorn({
    service: "shop",
    database: url,
    pooler: "transaction",
  });
  post.queue("email", policies.email).handle(SendEmail, () => undefined);
  return post;
}

export function beside(url: string) {
  const shop = posthorn({ service: "shop", database: url, schema: "posthorn_shop" });
  const crm = posthorn({ service: "crm", database: url, schema: "posthorn_crm" });
  return { shop, crm };
}

export async function startHere(post: ReturnType<typeof behindPooler>) {
  await post.start({ handleSignals: true });
}

export function serveProbes(post: ReturnType<typeof behindPooler>) {
  const answer = probes(post);
  return createServer(async (request, response) => {
    const { status, headers, body } = await answer(new Request(`http://probe${request.url}`));
    response.writeHead(status, Object.fromEntries(headers));
    for await (const chunk of body ?? []) response.write(chunk);
    response.end();
  });
}
