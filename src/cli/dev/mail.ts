/**
 * The mail catcher: a real SMTP server on the loopback address that takes every mail and delivers none.
 *
 * It takes any user and password, so that a program needs no other settings for it than the address.
 */

import { bounds } from "./bounds.js";
import { type Caught, firstBytes, type Mail } from "./caught.js";
import type { AddressLike } from "./mail-parts.js";
import { addressesOf, attachmentOf } from "./mail-parts.js";
import { listenOn, loopback, type WantedPort } from "./ports.js";

export interface MailCatcher {
  /** `smtp://127.0.0.1:1025` */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** What has to be installed for it. */
export const mailPackages = ["smtp-server", "postal-mime"] as const;

/** Undefined where a package is not installed. Errors: `ConfigurationError` for a port that was asked for and is taken. */
export async function catchMail(
  caught: Caught,
  wanted: WantedPort,
  onMail: (mail: Mail) => void,
): Promise<MailCatcher | undefined> {
  const loaded = await loadPackages();
  if (loaded === undefined) return undefined;
  const { SMTPServer, parse } = loaded;
  const smtp = new SMTPServer({
    banner: "posthorn dev",
    size: bounds.mailBytes,
    maxClients: bounds.smtpClients,
    disabledCommands: ["STARTTLS"],
    authOptional: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    logger: false,
    onAuth: ({ username }, _session, callback) => callback(null, { user: username ?? "anybody" }),
    onData: (stream, session, callback) => {
      const parts: Buffer[] = [];
      // What exceeds the size is drained and not kept; the server itself refuses it at the end.
      let kept = 0;
      stream.on("data", (part: Buffer) => {
        if (kept <= bounds.mailBytes) parts.push(part);
        kept += part.length;
      });
      stream.once("error", callback);
      stream.once("end", () => {
        if (stream.sizeExceeded) {
          callback(Object.assign(new Error("the message is too large"), { responseCode: 552 }));
          return;
        }
        const { mailFrom, rcptTo } = session.envelope;
        const envelope = { from: mailFrom ? mailFrom.address : "", to: rcptTo.map(({ address }) => address) };
        mailOf(Buffer.concat(parts), envelope, parse).then((mail) => {
          onMail(caught.mail(mail));
          callback(null, "caught");
        }, callback);
      });
    },
  });
  // A client that breaks off is its own affair.
  smtp.on("error", () => undefined);
  const port = await listenOn(smtp.server, wanted);
  return {
    url: `smtp://${loopback}:${port}`,
    host: loopback,
    port,
    close: () => new Promise((resolve) => smtp.close(() => resolve())),
  };
}

interface Parsed {
  readonly from?: AddressLike | undefined;
  readonly to?: readonly AddressLike[] | undefined;
  readonly subject?: string | undefined;
  readonly text?: string | undefined;
  readonly html?: string | undefined;
  readonly attachments: readonly {
    readonly filename: string | null;
    readonly mimeType: string;
    readonly content: unknown;
  }[];
}

type Parse = (source: Buffer) => Promise<Parsed>;

async function loadPackages() {
  try {
    const [{ SMTPServer }, { default: PostalMime }] = await Promise.all([import("smtp-server"), import("postal-mime")]);
    const parse: Parse = (source) => PostalMime.parse(source);
    return { SMTPServer, parse };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

type Envelope = Pick<Mail, "from" | "to">;

/** Who really gets it stands in the envelope; a mail that cannot be parsed is shown as it came. */
async function mailOf(source: Buffer, { from, to }: Envelope, parse: Parse): Promise<Omit<Mail, "id" | "at">> {
  const parsed = await parse(source).catch(() => undefined);
  const most = bounds.keptMailBytes;
  return {
    from: addressesOf(parsed?.from === undefined ? [] : [parsed.from])[0] ?? from,
    to,
    subject: parsed?.subject ?? "",
    text: parsed?.text?.slice(0, most) ?? "",
    html: parsed?.html?.slice(0, most) ?? null,
    attachments: parsed?.attachments.map(attachmentOf) ?? [],
    source: firstBytes(source, most),
  };
}
