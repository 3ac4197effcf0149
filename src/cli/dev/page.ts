/** The page of the catchers. Everything that was caught is foreign: it gets into the page through `escaped` alone. */

import { grouped, plural } from "../words.js";
import type { Caught, Mail, Webhook } from "./caught.js";
import { script } from "./page-script.js";
import { style } from "./page-style.js";

export { script, style };

export interface PageAbout {
  readonly smtpUrl: string | null;
  readonly hookUrl: string;
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** For text and for attributes in quotes. What would turn the direction of the text around is shown, not obeyed. */
export function escaped(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => entities[character] ?? "")
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, (character) => `&#92;u${character.charCodeAt(0).toString(16)}`);
}

export function pageOf({ mails, webhooks }: Caught, { smtpUrl, hookUrl }: PageAbout): string {
  const mailHint =
    smtpUrl === null
      ? "Mails are not caught: the packages for it are not installed, or it was turned off."
      : `No mail yet. Programs send them to <code>${escaped(smtpUrl)}</code>, which is <code>SMTP_URL</code> for your code.`;
  const hookHint = `No webhook yet. Programs call <code>${escaped(hookUrl)}</code>, which is <code>WEBHOOK_URL</code> for your code, or anything below it. With <code>?status=503</code> it answers so.`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>posthorn dev</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<header>
<h1>posthorn dev</h1>
<p id="state" role="status" data-live="connecting">connecting</p>
<button id="clear" type="button">Clear</button>
</header>
<main>
${sectionOf("mails", "Mails", mails.map(mailItem), mailHint)}
${sectionOf("webhooks", "Webhooks", webhooks.map(webhookItem), hookHint)}
</main>
<footer>Nothing leaves this machine. The newest are kept until posthorn dev ends. As JSON: <a href="/caught">/caught</a></footer>
</body>
</html>
`;
}

function sectionOf(id: string, title: string, items: readonly string[], hint: string): string {
  return `<section id="${id}" aria-labelledby="${id}-title">
<h2 id="${id}-title">${title} <span class="count">${grouped(items.length)}</span></h2>
<p class="hint"${items.length > 0 ? " hidden" : ""}>${hint}</p>
<ol class="items">${items.join("")}</ol>
</section>`;
}

function timeOf(at: string): string {
  return `<time datetime="${escaped(at)}">${escaped(at.slice(11, 19))} UTC</time>`;
}

function mailItem(mail: Mail): string {
  const { id, at, from, to, subject, text, html, attachments } = mail;
  const facts = [
    ["From", from],
    ["To", to.join(", ")],
    ...attachments.map(({ name, type, bytes }) => ["Attached", `${name} (${type}, ${plural(bytes, "byte")})`]),
  ];
  // Loaded when it is opened.
  const shown =
    html === null ? "" : `<iframe sandbox src="/mail/${id}/html" loading="lazy" title="The mail as HTML"></iframe>`;
  const plain = text === "" ? "" : `<pre>${escaped(text)}</pre>`;
  return `<li id="mail-${id}"><details><summary><strong>${escaped(subject) || "(no subject)"}</strong><span class="who">${escaped(to.join(", "))}</span>${timeOf(at)}</summary>
${factsOf(facts)}${shown || plain}${shown && plain ? `<details class="more"><summary>As text</summary>${plain}</details>` : ""}
<p class="links"><a href="/mail/${id}/source">Source</a></p></details></li>`;
}

function webhookItem(webhook: Webhook): string {
  const { id, at, method, path, headers, body, bytes, cut, status } = webhook;
  const answered = status < 400 ? `answered ${status}` : `<span class="refused">answered ${status}</span>`;
  const size = `${plural(bytes, "byte")}, ${answered}`;
  const rest = cut ? '<p class="cut">The rest of the body was not kept.</p>' : "";
  const pretty = prettyOf(body);
  return `<li id="webhook-${id}"><details><summary><strong><span class="method">${escaped(method)}</span> ${escaped(path)}</strong><span class="who">${size}</span>${timeOf(at)}</summary>
${factsOf(headers)}${body === "" ? '<p class="cut">No body.</p>' : `<pre>${escaped(pretty)}</pre>`}${rest}</details></li>`;
}

function factsOf(facts: readonly (readonly string[])[]): string {
  const rows = facts.map(([name = "", value = ""]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`);
  return `<dl>${rows.join("")}</dl>`;
}

/** JSON on several lines; anything else as it came. */
function prettyOf(body: string): string {
  if (!/^\s*[[{]/.test(body)) return body;
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
