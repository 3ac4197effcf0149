/**
 * A real SMTP server on a free port of the loopback address, so that the example needs no account anywhere. It can be told to turn
 * mail away: then a delivery fails and is tried again.
 */
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import PostalMime from "postal-mime";
import { SMTPServer } from "smtp-server";
import { bookReport } from "./accounting.js";
import { type Mail, mailKeeper } from "./mailbox.js";

const host = "127.0.0.1";

export interface MailServer {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

export async function startMailServer(isDown: () => boolean): Promise<MailServer> {
  const keep = mailKeeper(bookReport);
  const server = new SMTPServer({
    disabledCommands: ["AUTH", "STARTTLS"],
    closeTimeout: 1_000,
    onMailFrom: (_address, _session, done) => done(isDown() ? temporary("this mail server takes no mail now") : null),
    onData: (stream, session, done) => {
      const to = session.envelope.rcptTo.map(({ address }) => address).join(", ");
      buffer(stream)
        .then((raw) => mailIn(raw, to))
        .then(keep)
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
  return { host, port: address.port, close: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** 451: try again later. */
function temporary(message: string): Error {
  return Object.assign(new Error(message), { responseCode: 451 });
}

async function mailIn(raw: Buffer, to: string): Promise<Mail> {
  const mail = await PostalMime.parse(raw);
  const header = (name: string) => mail.headers.find(({ key }) => key === name)?.value;
  const csv = mail.attachments.filter(({ mimeType }) => mimeType === "text/csv");
  return {
    messageId: mail.messageId ?? "",
    to,
    subject: mail.subject ?? "",
    text: (mail.text ?? "").trim(),
    about: header("x-about") ?? null,
    attempt: Number(header("x-attempt") ?? 1),
    csv: csv.map(({ content }) => (typeof content === "string" ? content : new TextDecoder().decode(content))),
  };
}
