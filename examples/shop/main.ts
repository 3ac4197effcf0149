/** Opens the shop, and closes it in order on Ctrl-C. */
import { PosthornError, seconds } from "posthorn";
import { addHandlers } from "./handlers.js";
import { openShop } from "./http.js";
import { startMailServer } from "./mail-server.js";
import { createMailbox } from "./mailbox.js";
import { database, post } from "./post.js";
import { createTables } from "./tables.js";

try {
  await open();
} catch (error) {
  // The message of a typed error says what happened and what to do.
  console.error(error instanceof PosthornError ? `${error.code}: ${error.message}` : error);
  process.exit(1);
}

async function open(): Promise<void> {
  const wanted = portOf(process.env.PORT);
  await createTables();
  await createMailbox();
  const mailServer = await startMailServer();
  addHandlers(mailServer);
  await post.start();
  const { server, port } = await openShop(wanted, mailServer);

  const close = async (): Promise<void> => {
    console.log("closing");
    server.close();
    server.closeIdleConnections();
    await post.stop({ graceMs: seconds(5) });
    await mailServer.close();
    process.exit(0);
  };
  let closingSince: number | undefined;
  const onSignal = (): void => {
    if (closingSince === undefined) {
      closingSince = performance.now();
      close().catch((error: unknown) => {
        console.error(error);
        process.exit(1);
      });
      return;
    }
    // Twice in one moment is one Ctrl-C: the terminal and npm both send it.
    if (performance.now() - closingSince > 300) process.exit(1);
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);

  // A database URL may hold a password.
  const where = database.startsWith("embedded:") ? database : "DATABASE_URL";
  console.log(`The shop is open at http://localhost:${port} (database: ${where}; Ctrl-C closes it)`);
}

function portOf(text: string | undefined): number {
  const port = Number(text || 3000);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  console.error(`PORT must be a whole number from 0 to 65535, not ${text}.`);
  process.exit(1);
}
