/** The code of docs/guides/rolling-out.md. A test runs it. */
import { command, type Post, policies, type } from "posthorn";

/** As the first deployment knows it. */
export const before = command("SendInvoice", { queue: "invoices", schema: type<{ orderId: string; to: string }>() });

interface V1 {
  readonly orderId: string;
  readonly to: string;
}
interface V2 {
  readonly orderId: string;
  readonly to: readonly string[];
}

export const SendInvoice = command("SendInvoice", {
  queue: "invoices",
  version: 2,
  schema: type<V2>(),
  upcast: { 1: (v1: V1): V2 => ({ ...v1, to: [v1.to] }) },
});

interface Mailer {
  send(orderId: string, to: readonly string[]): Promise<void>;
}

export function work<Tx>(post: Post<Tx>, mailer: Mailer): void {
  post.queue("invoices", policies.email).handle(SendInvoice, async ({ orderId, to }) => {
    await mailer.send(orderId, to);
  });
}
