import { once } from "node:events";
import { createServer } from "node:https";
import type { LookupFunction } from "node:net";
import type { TLSSocket } from "node:tls";
import { type WebhookOptions, webhook } from "posthorn/webhooks";
import { expect, onTestFinished, test } from "vitest";
import { type Certificate, expiredCertificate, ownCertificate } from "./certificate.js";
import { said, secret, senderOf, sendOne, serveTcp } from "./places.js";

async function serveTls(certificate: Certificate) {
  const asked: { readonly servername: unknown; readonly host: string | undefined }[] = [];
  const server = createServer(certificate, (request, response) => {
    asked.push({ servername: (request.socket as TLSSocket).servername, host: request.headers.host });
    request.resume();
    response.writeHead(204).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, asked, server };
}

const own: LookupFunction = (_host, options, callback) =>
  callback(null, options.all === true ? [{ address: "127.0.0.1", family: 4 }] : "127.0.0.1", 4);
const to = (port: number, options: Partial<WebhookOptions> = {}, host = "127.0.0.1") =>
  webhook({ url: `https://${host}:${port}/`, secrets: [secret], allowPrivate: [host], lookup: own, ...options });

/** As somebody runs it who wants to be rid of errors of certificates. */
async function withoutChecks<T>(act: () => Promise<T>): Promise<T> {
  const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  try {
    return await act();
  } finally {
    if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
  }
}

test("a certificate of an authority that is trusted is accepted; the name that was meant is asked for, and verified, whatever the address is", async () => {
  const certificate = ownCertificate();
  const { port, asked } = await serveTls(certificate);
  const sender = await senderOf(to(port, { ca: certificate.cert }, "partner.example"));
  expect(await sendOne(sender)).toEqual({ kind: "acknowledged" });
  expect(asked).toEqual([{ servername: "partner.example", host: `partner.example:${port}` }]);
});

test.each<[string, () => Certificate, string, boolean]>([
  ["of an authority that nobody knows", ownCertificate, "127.0.0.1", false],
  ["of another name", () => ownCertificate(["other.example"]), "partner.example", true],
  ["that has expired", expiredCertificate, "127.0.0.1", true],
])(
  "a certificate %s is an error, at the start and later, also where the environment switches checks off",
  async (_what, make, host, known) => {
    const certificate = make();
    const { port, asked } = await serveTls(certificate);
    await withoutChecks(async () => {
      const broker = to(port, known ? { ca: certificate.cert } : {}, host);
      await expect(senderOf(broker)).rejects.toThrow(/certificate of the host is not accepted \([A-Z_]+\)/);
    });
    expect(asked).toEqual([]);
  },
);

test("a certificate that is not accepted any more when a webhook is posted keeps the webhook here", async () => {
  const [good, bad] = [ownCertificate(), ownCertificate()];
  const { port, server } = await serveTls(good);
  const sender = await senderOf(to(port, { ca: good.cert }));
  server.setSecureContext(bad);
  const sent = await withoutChecks(() => sendOne(sender));
  expect([sent.kind, said(sent)]).toEqual(["unavailable", expect.stringContaining("is not accepted")]);
  server.setSecureContext(good);
  expect(await sendOne(sender)).toEqual({ kind: "acknowledged" });
});

test("a receiver that speaks no TLS, or says nothing after the connection, is away", async () => {
  const plain = new URL(await serveTcp((socket) => socket.write("220 mail ready\r\n")));
  await expect(senderOf(to(Number(plain.port)))).rejects.toThrow("No encrypted connection could be made");
  const silent = new URL(await serveTcp(() => undefined));
  await expect(senderOf(to(Number(silent.port), { connectTimeoutMs: 200 }))).rejects.toThrow(
    "no connection within 200 ms",
  );
});
