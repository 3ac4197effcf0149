/**
 * Goal: what a program sends while it is developed is caught, shown as what it is, and can do nothing to whoever looks.
 * Method: the catchers with real clients; mails and webhooks with hostile content; requests as a page from elsewhere would make them.
 */
import { request as httpRequest } from "node:http";
import { createServer } from "node:net";
import { createTransport } from "nodemailer";
import { expect, onTestFinished, test } from "vitest";
import { bounds } from "../../src/cli/dev/bounds.js";
import { Caught, type Mail, type Webhook } from "../../src/cli/dev/caught.js";
import { catchMail } from "../../src/cli/dev/mail.js";
import { catchWebhooks, isOwnName } from "../../src/cli/dev/web.js";
import { posthornCommand, project } from "./command.js";
import { Dev, onServer, send, shop } from "./developing.js";

const free = { port: 0, asked: false, option: "mail-port" };
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>'&\u202etxt`;

async function mailCatcher() {
  const caught = new Caught();
  const seen: Mail[] = [];
  const catcher = await catchMail(caught, free, (mail) => seen.push(mail));
  if (catcher === undefined) throw new Error("the packages are not installed");
  onTestFinished(() => catcher.close());
  return { caught, seen, mailer: createTransport(catcher.url), ...catcher };
}

async function webCatcher(caught = new Caught()) {
  const seen: Webhook[] = [];
  const about = { smtpUrl: "smtp://127.0.0.1:1025" };
  const catcher = await catchWebhooks(caught, { ...free, option: "web-port" }, about, (webhook) => seen.push(webhook));
  onTestFinished(() => catcher.close());
  return { caught, seen, ...catcher };
}

test("a mail is caught with its envelope, subject, texts and attachments, whatever its encoding", async () => {
  const { seen, mailer } = await mailCatcher();
  await mailer.sendMail({
    from: "Grüße <shop@example.org>",
    to: "ada@example.org",
    bcc: "bob@example.org",
    subject: "Käse für Ada 🧀",
    text: "Zwölf Euro",
    html: "<p>Zwölf <b>Euro</b></p>",
    attachments: [{ filename: "rechnung.pdf", content: Buffer.alloc(1_000) }],
  });
  expect(seen).toMatchObject([
    {
      from: "Grüße <shop@example.org>",
      to: ["ada@example.org", "bob@example.org"],
      subject: "Käse für Ada 🧀",
      html: expect.stringMatching(/^<p>Zwölf <b>Euro<\/b><\/p>\s*$/),
      attachments: [{ name: "rechnung.pdf", type: "application/pdf", bytes: 1_000 }],
    },
  ]);
  expect(seen[0]?.text.trim()).toBe("Zwölf Euro");
  expect(seen[0]?.source).toMatch(/^From: /m);
});

test("a mail is caught from a client that signs in, and one that is no mail is shown as it came", async () => {
  const { seen, port } = await mailCatcher();
  const signed = createTransport({ host: "127.0.0.1", port, auth: { user: "anybody", pass: "anything" } });
  await signed.sendMail({ from: "a@example.org", to: "b@example.org", raw: "no header at all" });
  expect(seen).toMatchObject([
    { to: ["b@example.org"], subject: "", source: expect.stringContaining("no header at all") },
  ]);
});

test("a mail that is too large is refused, of a large one the beginning is kept, and the newest are kept", async () => {
  const { caught, seen, mailer } = await mailCatcher();
  const of = (bytes: number) =>
    mailer.sendMail({ from: "a@example.org", to: "b@example.org", text: "x".repeat(bytes) });
  await expect(of(bounds.mailBytes + 1)).rejects.toMatchObject({ responseCode: 552 });
  expect(seen).toEqual([]);
  await of(bounds.keptMailBytes * 2);
  expect(seen[0]?.text.length).toBe(bounds.keptMailBytes);
  for (let n = 0; n <= bounds.kept; n += 1)
    caught.mail({ from: "", to: [], subject: `${n}`, text: "", html: null, attachments: [], source: "" });
  expect(caught.mails).toHaveLength(bounds.kept);
  expect(caught.mails[0]?.subject).toBe(`${bounds.kept}`);
});

test("every request below /hook is caught with method, path, headers and body, and answered as it asks", async () => {
  const { seen, hookUrl } = await webCatcher();
  const response = await fetch(`${hookUrl}/partner/orders?status=503`, {
    method: "PUT",
    headers: { "Webhook-Signature": "v1,abc" },
    body: '{"n":1}',
  });
  expect([response.status, await response.json()]).toEqual([503, { caught: true }]);
  expect(seen).toMatchObject([
    { method: "PUT", path: "/hook/partner/orders?status=503", body: '{"n":1}', bytes: 7, cut: false, status: 503 },
  ]);
  expect(seen[0]?.headers).toContainEqual(["Webhook-Signature", "v1,abc"]);
  for (const [query, status] of [
    ["", 200],
    ["?status=204", 204],
    ["?status=99", 200],
    ["?status=1000", 200],
  ] as const)
    expect((await fetch(`${hookUrl}${query}`)).status).toBe(status);
});

test("of a long body the beginning is kept, and one that is too long is refused", async () => {
  const { seen, hookUrl } = await webCatcher();
  expect((await fetch(hookUrl, { method: "POST", body: "é".repeat(bounds.keptBodyBytes) })).status).toBe(200);
  expect(seen[0]).toMatchObject({ bytes: 2 * bounds.keptBodyBytes, cut: true });
  expect(seen[0]?.body).toBe("é".repeat(bounds.keptBodyBytes / 2));
  const tooLong = fetch(hookUrl, { method: "POST", body: "x".repeat(bounds.bodyBytes + 1) });
  // The connection may be cut before the client has read the answer.
  expect(
    await tooLong.then(
      ({ status }) => status,
      () => 413,
    ),
  ).toBe(413);
  expect(seen).toHaveLength(1);
});

test("hostile content is shown as text: nothing of it becomes markup, on no page", async () => {
  const caught = new Caught();
  const { pageUrl, hookUrl } = await webCatcher(caught);
  const attachments = [{ name: hostile, type: hostile, bytes: 1 }];
  const { id } = caught.mail({
    from: hostile,
    to: [hostile],
    subject: hostile,
    text: hostile,
    html: hostile,
    attachments,
    source: hostile,
  });
  await fetch(`${hookUrl}/${hostile.replace(/\u202e/g, "")}?${hostile.replace(/\u202e/g, "")}`, {
    method: "POST",
    headers: { "X-Hostile": '"><script>alert(1)</script>' },
    body: hostile,
  });
  caught.webhook({
    method: hostile,
    path: hostile,
    headers: [[hostile, hostile]],
    body: hostile,
    bytes: 1,
    cut: true,
    status: 200,
  });
  const page = await fetch(pageUrl);
  const text = await page.text();
  expect(text.match(/<script/g)).toEqual(["<script"]);
  expect(text).not.toMatch(/<img|\u202e/);
  expect(text).toContain("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;");
  const csp = page.headers.get("content-security-policy") ?? "";
  expect(csp).toMatch(/default-src 'none'.*script-src 'self'.*frame-ancestors 'none'/);
  expect(csp).not.toContain("unsafe");
  const html = await fetch(`${pageUrl}mail/${id}/html`);
  expect(await html.text()).toBe(hostile);
  expect(html.headers.get("content-security-policy")).toMatch(
    /^sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:;/,
  );
  const source = await fetch(`${pageUrl}mail/${id}/source`);
  expect(source.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  expect(source.headers.get("x-content-type-options")).toBe("nosniff");
});

/** As a browser would ask that was told another name for this address. */
async function ask(url: string, host: string, method = "GET"): Promise<number> {
  return new Promise((resolve, reject) => {
    const asking = httpRequest(url, { method, headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asking.once("error", reject);
    asking.end();
  });
}

test("only a browser that asks for this machine by its own name sees anything; a webhook may come under any name", async () => {
  const { caught, pageUrl, hookUrl } = await webCatcher();
  caught.mail({ from: "", to: [], subject: "secret", text: "", html: "", attachments: [], source: "" });
  const { port } = new URL(pageUrl);
  for (const path of ["", "caught", "changes", "mail/1/html", "mail/1/source", "page.js"])
    expect([path, await ask(`${pageUrl}${path}`, `evil.example:${port}`)]).toEqual([path, 421]);
  expect(await ask(`${pageUrl}caught`, "127.0.0.1")).toBe(421);
  expect(await ask(`${pageUrl}caught`, `127.0.0.1:${port}`, "DELETE")).toBe(204);
  expect(caught.mails).toEqual([]);
  expect(await ask(`${pageUrl}caught`, `localhost:${port}`)).toBe(200);
  expect(await ask(hookUrl, "tunnel.example")).toBe(200);
  expect(["localhost:1", "LOCALHOST:1", "[::1]:1", "127.0.0.1:1"].every((host) => isOwnName(host, 1))).toBe(true);
  expect(
    ["", "127.0.0.1", "127.0.0.1:2", "127.0.0.1:1.evil.example", "localhost.evil.example:1"].some((host) =>
      isOwnName(host, 1),
    ),
  ).toBe(false);
  expect(isOwnName(undefined, 1)).toBe(false);
});

test("no other page may read or clear what was caught, and what is not there is 404 or 405", async () => {
  const { pageUrl } = await webCatcher();
  const response = await fetch(`${pageUrl}caught`, { headers: { origin: "https://evil.example" } });
  expect(response.headers.get("access-control-allow-origin")).toBe(null);
  expect(response.headers.get("cross-origin-resource-policy")).toBe("same-origin");
  const preflight = await fetch(`${pageUrl}caught`, { method: "OPTIONS" });
  expect([preflight.status, preflight.headers.get("access-control-allow-methods")]).toEqual([405, null]);
  expect((await fetch(`${pageUrl}caught`, { method: "POST" })).status).toBe(405);
  for (const path of ["nothing", "mail/1/html", "mail/1/other", "hooks", "%2e%2e/package.json"])
    expect([path, (await fetch(`${pageUrl}${path}`)).status]).toEqual([path, 404]);
  expect(await ask(`${pageUrl}/evil.example/`, new URL(pageUrl).host)).toBe(404);
});

test("the page is told of each change, and as JSON everything is there", async () => {
  const { caught, pageUrl } = await webCatcher();
  const stop = new AbortController();
  const changes = await fetch(`${pageUrl}changes`, { signal: stop.signal });
  const reader = changes.body?.getReader();
  const read = async () => new TextDecoder().decode((await reader?.read())?.value);
  expect(await read()).toBe("data: changed\n\n");
  caught.webhook({ method: "GET", path: "/hook", headers: [], body: "", bytes: 0, cut: false, status: 200 });
  expect(await read()).toBe("data: changed\n\n");
  stop.abort();
  expect(await (await fetch(`${pageUrl}caught`)).json()).toMatchObject({ mails: [], webhooks: [{ path: "/hook" }] });
});

test("a catcher takes a free port where the usual one is taken, and refuses one that was asked for", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise((resolve) => taken.close(() => resolve())));
  const address = taken.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const usual = await catchMail(new Caught(), { port, asked: false, option: "mail-port" }, () => undefined);
  expect(usual?.port).not.toBe(port);
  await usual?.close();
  const cwd = await project({ "posthorn.config.mjs": "" });
  for (const option of ["--mail-port", "--web-port"]) {
    const ended = await posthornCommand(["dev", option, String(port)], { cwd });
    expect(ended).toMatchObject({ code: 2, out: "" });
    expect(ended.err).toMatch(new RegExp(`Port ${port} cannot be used: another program listens there\\. .+${option}`));
  }
});

test("under dev a handler's mail and webhook are caught, and its code is told where by its environment", async () => {
  const folder = await shop(`
    const { createTransport } = await import(${JSON.stringify(import.meta.resolve("nodemailer"))});
    const { SMTP_URL, SMTP_HOST, SMTP_PORT, WEBHOOK_URL } = process.env;
    if (SMTP_URL !== "smtp://" + SMTP_HOST + ":" + SMTP_PORT) throw new Error("SMTP_URL is " + SMTP_URL);
    await createTransport(SMTP_URL).sendMail({ from: "shop@example.org", to: payload.to, subject: "Thank you" });
    await fetch(WEBHOOK_URL + "/partner", { method: "POST", body: "paid" });
    console.log("handled");`);
  // What is set already would reach somebody.
  const dev = await Dev.start(folder, ["--json"], {
    SMTP_URL: "smtp://mail.example",
    WEBHOOK_URL: "https://partner.example",
    ...(await onServer()),
  });
  const { smtpUrl, webhookUrl, pageUrl } = await dev.next("watching");
  expect([smtpUrl, webhookUrl, pageUrl]).toEqual([
    expect.stringMatching(/^smtp:\/\/127\.0\.0\.1:\d+$/),
    `${pageUrl}hook`,
    expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/$/),
  ]);
  await dev.next("started");
  await send(dev, { to: "ada@example.org" });
  expect(await dev.next("mail")).toMatchObject({ to: ["ada@example.org"], subject: "Thank you" });
  expect(await dev.next("webhook")).toMatchObject({ method: "POST", path: "/hook/partner", bytes: 4, status: 200 });
  await dev.printed("handled");
  const { mails, webhooks } = (await (await fetch(`${pageUrl}caught`)).json()) as {
    mails: Mail[];
    webhooks: Webhook[];
  };
  expect([mails.map(({ subject }) => subject), webhooks.map(({ body }) => body)]).toEqual([["Thank you"], ["paid"]]);
});

test("without the packages dev says how to get them, leaves SMTP_URL as it is, and goes on", async () => {
  const folder = await shop("console.log(process.env.SMTP_URL);", {
    "hide.mjs": 'import { register } from "node:module"; register("./hook.mjs", import.meta.url);',
    "hook.mjs":
      'export async function resolve(name, context, next) { if (name === "postal-mime") throw Object.assign(new Error("none"), { code: "ERR_MODULE_NOT_FOUND" }); return next(name, context); }',
  });
  const NODE_OPTIONS = `--import=${folder}/hide.mjs`;
  const dev = await Dev.start(folder, ["--json"], {
    SMTP_URL: "smtp://mine.example",
    NODE_OPTIONS,
    ...(await onServer()),
  });
  expect((await dev.next("notice")).message).toMatch(/npm install --save-dev smtp-server postal-mime$/);
  expect(await dev.next("watching")).toMatchObject({ smtpUrl: null, webhookUrl: expect.any(String) });
  await dev.next("started");
  await send(dev, {});
  await dev.printed("smtp://mine.example");
});

test("with --no-catch nothing is caught and the environment stays as it is", async () => {
  const folder = await shop('console.log(process.env.SMTP_URL + " " + process.env.WEBHOOK_URL);');
  const env = { SMTP_URL: "smtp://mine.example", WEBHOOK_URL: "https://mine.example" };
  const dev = await Dev.start(folder, ["--json", "--no-catch"], { ...env, ...(await onServer()) });
  expect(await dev.next("watching")).toMatchObject({ smtpUrl: null, webhookUrl: null, pageUrl: null });
  await dev.next("started");
  await send(dev, {});
  await dev.printed("smtp://mine.example https://mine.example");
});
