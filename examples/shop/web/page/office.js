/** The back office: sales figures, reports, and the newest mails. */
import { $, call, el, euros, grouped, icon, lister, time } from "./dom.js";

const showMails = lister($("mails"), ({ messageId }) => messageId, mailItem);

function mailItem({ to, subject, text, attempt, deliveries, receivedAt }) {
  const again = deliveries > 1 ? ` · came ${deliveries} times, kept once` : "";
  return el(
    "li",
    { className: "mail card" },
    el("p", { className: "mail-to" }, `To ${to}`),
    el("span", { className: "stamp" }, icon("horn")),
    el("h4", {}, subject),
    el("p", { className: "mail-text" }, text.replace(/\n+/g, "\n")),
    el("p", { className: "mail-foot" }, `arrived ${time(receivedAt)}, attempt ${attempt}${again}`),
  );
}

let shown = "";

export function showOffice({ figures, reports }) {
  const json = JSON.stringify([figures, reports]);
  if (json === shown) return;
  shown = json;
  const most = Math.max(1, ...figures.map(({ orders }) => orders));
  const bars = figures.flatMap(({ article, orders, cents }) => {
    const bar = el("span", { className: "amount", ariaHidden: "true" }, el("i"));
    bar.firstChild.style.width = `${(100 * orders) / most}%`;
    return [el("dt", {}, article), el("dd", {}, bar, `${grouped(orders)} · ${euros(cents)}`)];
  });
  $("figures").replaceChildren(el("h3", { className: "small" }, "Sales figures"), el("dl", {}, ...bars));
  $("reports").replaceChildren(el("h3", { className: "small" }, "Reports to accounting"), reportList(reports));
}

function reportList(reports) {
  if (reports.length === 0)
    return el("p", { className: "hint" }, "Every ten seconds what was paid is reported, as CSV by mail.");
  return el(
    "ul",
    {},
    ...reports.map(({ id, lines, cents, closedAt, booked }) =>
      el(
        "li",
        { title: id },
        `${time(closedAt)} · ${grouped(lines)} ${lines === 1 ? "payment" : "payments"}, ${euros(cents)}`,
        el(
          "span",
          { className: "state", data: { tone: booked === lines ? "good" : "busy" } },
          booked === lines ? "booked" : `${grouped(booked)} booked`,
        ),
      ),
    ),
  );
}

export async function lookAtMails() {
  showMails((await call("mails")).slice(0, 4));
}
