/**
 * A real SMTP server on a free port of the loopback address, so that the example needs no account anywhere.
 *
 * It reads what this shop writes, plain ASCII text, and can be told to turn mail away: then a delivery fails and is tried again.
 */
import { once } from "node:events";
import { text as textOf } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";
import { keepMail, type Mail } from "./mailbox.js";

const host = "127.0.0.1";

export interface MailServer {
  readonly host: string;
  readonly port: number;
  /** Whether it takes mail. */
  accepting: boolean;
  close(): Promise<void>;
}

export async function startMailServer(): Promise<MailServer> {
  const server = new SMTPServer({
    disabledCommands: ["AUTH", "STARTTLS"],
    closeTimeout: 1_000,
    onMailFrom: (_address, _session, done) => done(mailServer.accepting ? null : notNow()),
    onData: (stream, session, done) => {
      const to = session.envelope.rcptTo.map(({ address }) => address).join(", ");
      textOf(stream)
        .then((raw) => keepMail(read(raw, to)))
        .then(
          () => done(null, "kept"),
          (error: unknown) => done(temporary(`not kept: ${error instanceof Error ? error.message : error}`)),
        );
    },
  });
  server.on("error", (error) => console.error(`mail server: ${error.message}`));
  const listening = server.listen(0, host);
  await once(listening, "listening");
  const address = listening.address();
  if (address === null || typeof address === "string") throw new Error("The mail server has no port.");
  const close = () => new Promise<void>((resolve) => server.close(resolve));
  const mailServer: MailServer = { host, port: address.port, accepting: true, close };
  return mailServer;
}

function notNow(): Error {
  return temporary("this mail server takes no mail at the moment");
}

/** 451: try again later. */
function temporary(message: string): Error {
  return Object.assign(new Error(message), { responseCode: 451 });
}

function read(raw: string, to: string): Mail {
  const end = raw.indexOf("\r\n\r\n");
  const headers = new Map<string, string>();
  // A line that begins with a blank continues the one before.
  for (const line of raw
    .slice(0, end)
    .replace(/\r\n(?=[ \t])/g, "")
    .split("\r\n")) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return {
    messageId: headers.get("message-id") ?? "",
    to,
    subject: headers.get("subject") ?? "",
    text: raw
      .slice(end + 4)
      .replaceAll("\r\n", "\n")
      .trim(),
    attempt: Number(headers.get("x-attempt") ?? 1),
  };
}
