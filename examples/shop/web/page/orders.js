/** Your orders, the search, and the way of one order. */
import { $, call, el, euros, grouped, lister, time, write } from "./dom.js";

const tones = {
  succeeded: "good",
  running: "busy",
  queued: "busy",
  retrying: "wait",
  scheduled: "wait",
  parked: "wait",
};

let chosen;
let searching = "";

const showList = lister($("orders"), ({ id }) => id, orderItem);

function orderItem({ id, article, cents, email, placedAt, priceConfirmed = true }) {
  const button = el(
    "button",
    { type: "button", className: "order", ariaPressed: String(id === chosen) },
    el("span", { className: "order-article" }, article),
    el("span", { className: "order-price" }, euros(cents)),
    el("span", { className: "order-to" }, priceConfirmed ? email : `${email} · list price`),
    el("span", { className: "order-at" }, `${id.slice(0, 8)} · ${time(placedAt)}`),
  );
  button.addEventListener("click", () => choose(id));
  return el("li", { data: { id } }, button);
}

let look = () => {};

export function choose(id) {
  chosen = id;
  for (const item of $("orders").children) item.firstChild.ariaPressed = String(item.dataset.id === id);
  look();
}

export function openOrders(lookNow) {
  look = lookNow;
  $("search").addEventListener("submit", (event) => event.preventDefault());
  $("q").addEventListener("input", () => {
    searching = $("q").value.trim();
    lookNow();
  });
}

/** Returns whether the order that is shown is still on its way. */
export async function lookAtOrders(orders) {
  if (searching === "") {
    showList(await call("orders"));
    write($("orders-count"), orders > 0 ? "the newest twenty" : "");
  } else {
    const { total, hits } = await call(`search?q=${encodeURIComponent(searching)}`);
    showList(hits);
    write($("orders-count"), `${grouped(total)} found`);
  }
  const first = $("orders").firstChild?.dataset.id;
  if (chosen === undefined && first !== undefined) choose(first);
  for (const item of $("orders").children) item.firstChild.ariaPressed = String(item.dataset.id === chosen);
  if (chosen === undefined) return false;
  const order = await call(`orders/${chosen}`).catch(() => undefined);
  if (order === undefined) chosen = undefined;
  else showWay(order);
  return order?.messages.some(({ receivers }) => receivers.some(({ state }) => tones[state] !== "good")) ?? false;
}

let shown = "";

function showWay(order) {
  const json = JSON.stringify(order);
  if (json === shown) return;
  shown = json;
  const steps = order.messages.flatMap((message) => message.receivers.map((receiver) => step(message, receiver)));
  if (!order.messages.some(({ name }) => name === "OrderPlaced")) steps.unshift(unread(order));
  $("way").replaceChildren(
    el(
      "article",
      { className: "card route" },
      el(
        "header",
        { className: "route-head" },
        el("h3", {}, order.article),
        el("span", { className: "order-price" }, euros(order.cents)),
        el("span", { className: "order-to" }, `${order.email}, ${order.postalCode}`),
        el("span", { className: "order-at" }, `${order.id.slice(0, 8)} · ${time(order.placedAt)}`),
        el("span", { className: "order-to" }, shippingOf(order)),
        el("span", { className: "order-at" }, order.piece === null ? "" : `piece no. ${grouped(order.piece)}`),
        el("span", { className: "order-at" }, order.parcel === null ? "" : `sent off as ${order.parcel}`),
      ),
      el("ol", { className: "steps" }, queryStep(order), ...steps),
      ...order.mails.map(letter),
    ),
  );
}

function shippingOf({ shipment }) {
  if (shipment === null) return "where it goes to is being looked up";
  const { region, zone, days } = shipment;
  return `to ${region}, ${zone}, ${days} ${days === 1 ? "working day" : "working days"}`;
}

function queryStep({ priceConfirmed }) {
  const tone = priceConfirmed ? "good" : "wait";
  const state = priceConfirmed ? "answered" : "no answer in time";
  return el(
    "li",
    { className: "step", data: { tone } },
    el(
      "span",
      { className: "step-name" },
      "PriceOf ",
      el("span", { className: "step-way" }, "query, answered here and now"),
    ),
    el("span", { className: "state" }, state),
    el(
      "span",
      { className: "step-when" },
      priceConfirmed ? "before the order was taken; never stored" : "so the order was taken at the list price",
    ),
  );
}

function step({ id, name, kind, saidAt }, { name: receiver, state, dueAt, crashes, failures }) {
  const due = dueAt !== null && state === "retrying";
  return el(
    "li",
    { className: "step", data: { tone: tones[state] ?? "bad", state } },
    el("span", { className: "step-name" }, `${name} `, el("span", { className: "step-way" }, `${kind} → ${receiver}`)),
    el("span", { className: "state" }, state),
    el(
      "span",
      { className: "step-when" },
      `${kind === "event" ? "published" : "sent"} ${time(saidAt)}`,
      due ? el("span", { data: { due: dueAt } }) : undefined,
      state === "parked" ? " · waits behind an earlier order of this article" : undefined,
      crashes > 0 ? ` · survived ${crashes} ${crashes === 1 ? "crash" : "crashes"}` : undefined,
      el("code", { className: "why", title: "asks the command line why it is where it is" }, `posthorn why ${id}`),
    ),
    failures.length > 0 ? el("ol", { className: "failures" }, ...failureItems(failures)) : undefined,
  );
}

/** The last ones; how many there were before. */
function failureItems(failures) {
  const last = failures.slice(-3).map(({ attempt, at, error }) => {
    return el("li", {}, `Attempt ${attempt}`, at === null ? "" : `, ${time(at)}`, `: ${error}`);
  });
  const before = failures.length - last.length;
  return before === 0
    ? last
    : [el("li", {}, `${before} earlier ${before === 1 ? "attempt" : "attempts"} failed`), ...last];
}

/** It was committed with the order; the first subscription has not read it yet. */
function unread({ placedAt }) {
  return el(
    "li",
    { className: "step", data: { tone: "busy" } },
    el(
      "span",
      { className: "step-name" },
      "OrderPlaced ",
      el("span", { className: "step-way" }, "event → confirmations"),
    ),
    el("span", { className: "state" }, "not read yet"),
    el("span", { className: "step-when" }, `committed with the order ${time(placedAt)}`),
  );
}

function letter({ to, subject, deliveries, receivedAt, attempt }) {
  const again = deliveries > 1 ? ` · came ${deliveries} times, kept once` : "";
  return el(
    "p",
    { className: "letter" },
    el("b", {}, subject),
    ` · to ${to} · arrived ${time(receivedAt)}, attempt ${attempt}${again}`,
  );
}

export function showDue() {
  for (const element of document.querySelectorAll("[data-due]")) {
    const seconds = Math.ceil((new Date(element.dataset.due) - Date.now()) / 1000);
    write(element, seconds > 0 ? ` · next attempt in ${seconds} s` : " · next attempt now");
  }
}
