/** Opens the shop and everything around it, and closes it in order. */
import { relative } from "node:path";
import { seconds } from "posthorn";
import { beginLife, statusReader } from "./demo/status.js";
import { Troubles } from "./demo/troubles.js";
import { openMailer } from "./features/mail.js";
import { addHandlers } from "./handlers.js";
import { meetBroker, meetShipping } from "./neighbours.js";
import { database, post } from "./post.js";
import { startMailServer } from "./services/mail-server.js";
import { startPartner } from "./services/partner.js";
import { startPaymentService } from "./services/payment-service.js";
import { createTables } from "./tables.js";
import { routes } from "./web/routes.js";
import { openShop } from "./web/server.js";

class WrongSetting extends Error {
  override readonly name = "WrongSetting";
}

/** Returns when the shop is open. */
export async function open(): Promise<void> {
  const wanted = portOf(process.env.PORT);
  await createTables();
  const troubles = await Troubles.load();
  const mailServer = await startMailServer(() => troubles.is("mail-down"));
  const partner = await startPartner();
  const paymentService = await startPaymentService({
    slow: () => troubles.is("payment-slow"),
    losesAnswers: () => troubles.is("payment-answers-lost"),
  });
  const mailer = openMailer(mailServer);
  addHandlers({ mailer, paymentUrl: paymentService.url, partner }, troubles);
  // The supervisor starts a broker and the shipping department. Without them the shop goes on, and nobody sends anything off.
  if (process.env.BROKER) meetShipping(process.env.BROKER, troubles);
  if (process.env.BROKER_URL) await meetBroker(process.env.BROKER_URL);
  await post.start();
  const { server, port } = await openShop(wanted, routes(statusReader(await beginLife(), troubles), troubles));

  closeOnSignal(async () => {
    console.log("closing");
    server.close();
    server.closeIdleConnections();
    await post.stop({ graceMs: seconds(5) });
    mailer.close();
    await Promise.all([mailServer.close(), partner.close(), paymentService.close()]);
  });
  process.send?.({ open: port });
  console.log(`The shop is open at http://localhost:${port} (database: ${whereIs(database)}; Ctrl-C closes it)`);
}

/** On Ctrl-C, on SIGTERM, and when the supervisor is gone. */
function closeOnSignal(close: () => Promise<void>): void {
  let closingSince: number | undefined;
  const onSignal = (): void => {
    if (closingSince === undefined) {
      closingSince = performance.now();
      close().then(
        () => process.exit(0),
        (error: unknown) => {
          console.error(error);
          process.exit(1);
        },
      );
      return;
    }
    // Twice in one moment is one Ctrl-C: the terminal, npm and the supervisor all send it.
    if (performance.now() - closingSince > 500) process.exit(1);
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  process.on("disconnect", onSignal);
}

/** A database URL may hold a password. */
function whereIs(given: string): string {
  return given.startsWith("embedded:") ? `embedded:${relative(process.cwd(), given.slice(9)) || "."}` : "DATABASE_URL";
}

function portOf(text: string | undefined): number {
  const port = Number(text || 3000);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new WrongSetting(`PORT must be a whole number from 0 to 65535, not ${text}.`);
}
