/** The page: asks for prices, places orders, and looks what became of them. Works with the HTTP interface and nothing else. */

const $ = (id) => document.getElementById(id);
const form = $("form");
const emailField = $("email");
const button = form.querySelector("button");

const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
const time = (when) => clock.format(new Date(when));

const kinds = { OrderPlaced: "event", SendEmail: "command" };
const tones = {
  succeeded: "good",
  running: "busy",
  queued: "busy",
  retrying: "wait",
  scheduled: "wait",
  parked: "wait",
};

/** A refusal of the shop, with its problem document. */
class Refused extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "The shop refused.");
    this.errors = problem.errors ?? [];
  }
}

async function call(path, { method = "GET", body } = {}) {
  const response = await fetch(path, {
    method,
    signal: AbortSignal.timeout(10_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const json = await response.json();
  if (!response.ok) throw new Refused(json);
  return json;
}

/** `el("p", { className: "x" }, "text", child)` */
function el(name, properties = {}, ...children) {
  const { data = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/* Counter */

async function showArticles() {
  const articles = await call("articles");
  $("articles").replaceChildren(
    ...articles.map(({ sku, name, about }) =>
      el(
        "label",
        { className: "article" },
        el("input", { type: "radio", name: "sku", value: sku }),
        icon(sku),
        el("span", { className: "article-name" }, name),
        el("span", { className: "article-about" }, about),
      ),
    ),
  );
}

/** Answers may come in another order than the questions: only the last one counts. */
let asked = 0;

async function showPrice(sku) {
  asked += 1;
  const mine = asked;
  $("price-note").textContent = "asking …";
  const shown = await call(`price/${encodeURIComponent(sku)}`).then(
    ({ cents, tookMs }) => [money.format(cents / 100), `PriceOf was answered in ${tookMs} ms`],
    (error) => ["–", error instanceof Refused ? error.message : "The shop cannot be reached."],
  );
  if (mine === asked) [$("price").textContent, $("price-note").textContent] = shown;
}

function say(text, state = "good") {
  $("said").dataset.state = state;
  $("said").textContent = text;
}

/** Puts each error beside its field, and the cursor into the first one. */
function showWrong(errors) {
  const of = (field) => errors.find(({ pointer }) => pointer === `#/${field}`)?.detail;
  const radios = [...form.querySelectorAll("[name=sku]")];
  const [sku, email] = [of("sku"), of("email")];
  $("sku-wrong").textContent = sku === undefined ? "" : "Choose an article.";
  $("email-wrong").textContent = email === undefined ? "" : `This ${email}.`;
  emailField.setAttribute("aria-invalid", String(email !== undefined));
  if (sku !== undefined) radios[0]?.focus();
  else if (email !== undefined) emailField.focus();
}

async function placeOrder(event) {
  event.preventDefault();
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  say("");
  try {
    const { sku = "", email = "" } = Object.fromEntries(new FormData(form));
    const { id } = await call("orders", { method: "POST", body: { sku, email: email.trim() } });
    showWrong([]);
    say(`Order ${id.slice(0, 8)} is placed.`);
    lookNow();
  } catch (error) {
    showWrong(error.errors ?? []);
    if (!error.errors?.length) {
      say(
        error instanceof Refused ? error.message : "The shop cannot be reached. Nothing is known of this order.",
        "bad",
      );
    }
  } finally {
    button.ariaDisabled = "false";
  }
}

/* Orders */

function orderItem({ id, article, cents, email, placedAt, messages }) {
  const steps = messages.flatMap(({ name, saidAt, receivers }) =>
    receivers.map((receiver) => step(name, saidAt, receiver)),
  );
  return el(
    "li",
    { className: "order card" },
    el(
      "div",
      { className: "order-head" },
      el("h3", {}, article),
      el("span", { className: "order-price" }, money.format(cents / 100)),
      el("span", { className: "order-to" }, email),
      el("span", { className: "order-at", title: id }, `${id.slice(0, 8)} · ${time(placedAt)}`),
    ),
    el("ol", { className: "steps" }, ...(steps.length > 0 ? steps : [unread(placedAt)])),
  );
}

function step(name, saidAt, { name: receiver, state, dueAt, failures }) {
  const event = kinds[name] === "event";
  const due = dueAt !== null && state === "retrying";
  return el(
    "li",
    { className: "step", data: { tone: tones[state] ?? "bad" } },
    el(
      "span",
      { className: "step-name" },
      `${name} `,
      el("span", { className: "step-way" }, `${kinds[name] ?? ""} → ${receiver}`),
    ),
    el("span", { className: "state" }, state),
    el(
      "span",
      { className: "step-when" },
      `${event ? "published" : "sent"} ${time(saidAt)}`,
      due ? el("span", { data: { due: dueAt } }) : undefined,
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

/** It was committed with the order; the subscription has not read it yet. */
function unread(placedAt) {
  return el(
    "li",
    { className: "step", data: { tone: "busy" } },
    el("span", { className: "step-name" }, "OrderPlaced"),
    el("span", { className: "state" }, "not read yet"),
    el("span", { className: "step-when" }, `committed with the order ${time(placedAt)}`),
  );
}

/* Mail server */

function mailItem({ to, subject, text, attempt, deliveries, receivedAt }) {
  const again = deliveries > 1 ? ` · delivered ${deliveries} times, kept once` : "";
  return el(
    "li",
    { className: "mail card" },
    el("p", { className: "mail-to" }, `To ${to}`),
    el("span", { className: "stamp" }, icon("horn")),
    el("h3", {}, subject),
    el("p", { className: "mail-text" }, text.replace(/\n+/g, "\n")),
    el("p", { className: "mail-foot" }, `arrived ${time(receivedAt)}, attempt ${attempt}${again}`),
  );
}

function showServer({ accepting, port }) {
  $("switch").ariaChecked = String(accepting);
  $("server-name").textContent = accepting ? "Takes mail" : "Turns mail away";
  $("server-note").textContent = accepting ? `SMTP on port ${port}` : "Answers 451: try again later";
}

async function turnSwitch() {
  const accepting = $("switch").ariaChecked !== "true";
  await call("mail-server", { method: "PUT", body: { accepting } }).then(showServer, () => {});
  lookNow();
}

/* What is shown follows what the shop tells. */

/** Keeps the elements of what did not change, so that nothing flickers and a selection stays. */
function lister(list, keyOf, itemOf) {
  let shown;
  return (values) => {
    const next = new Map();
    for (const value of values) {
      const json = JSON.stringify(value);
      const before = shown?.get(keyOf(value));
      const element = before?.json === json ? before.element : itemOf(value);
      if (shown !== undefined && before === undefined) element.classList.add("new");
      next.set(keyOf(value), { json, element });
    }
    const elements = [...next.values()].map(({ element }) => element);
    if (elements.some((element, i) => list.children[i] !== element) || elements.length !== list.children.length) {
      list.replaceChildren(...elements);
    }
    const fresh = shown === undefined ? [] : values.filter((value) => !shown.has(keyOf(value)));
    $(`${list.id}-empty`).hidden = values.length > 0;
    $(`${list.id}-count`).textContent = values.length > 0 ? `${values.length}` : "";
    shown = next;
    return fresh;
  };
}

const showOrders = lister($("orders"), ({ id }) => id, orderItem);
const showMails = lister($("mails"), ({ messageId }) => messageId, mailItem);

function showDue() {
  for (const element of document.querySelectorAll("[data-due]")) {
    const seconds = Math.ceil((new Date(element.dataset.due) - Date.now()) / 1000);
    element.textContent = seconds > 0 ? ` · next attempt in ${seconds} s` : " · next attempt now";
  }
}

function showLink(state, text) {
  const link = $("link");
  if (link.dataset.state === state) return;
  link.dataset.state = state;
  link.textContent = text;
}

/** Looks once; returns whether something is still on its way. */
async function look() {
  try {
    if ($("articles").children.length === 0) await showArticles();
    const [orders, mails, server] = await Promise.all([call("orders"), call("mails"), call("mail-server")]);
    showOrders(orders);
    for (const { to } of showMails(mails)) say(`A mail to ${to} arrived.`);
    showServer(server);
    showDue();
    showLink("live", "live");
    return orders.some(({ messages }) => messages.length < 2 || messages.some(unfinished));
  } catch {
    showLink("away", "no answer, trying again");
    return false;
  }
}

const unfinished = ({ receivers }) => receivers.some(({ state }) => state !== "succeeded" && state !== "dead");

let wake = () => {};
let looking = false;

/** Often while something is on its way, seldom otherwise, not at all while nobody sees it. */
async function keepLooking() {
  for (;;) {
    looking = true;
    const soon = document.visibilityState === "visible" && (await look());
    looking = false;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, soon ? 300 : 1_500);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function lookNow() {
  if (!looking) wake();
}

$("articles").addEventListener("change", ({ target }) => {
  $("sku-wrong").textContent = "";
  showPrice(target.value);
});
form.addEventListener("submit", placeOrder);
$("switch").addEventListener("click", turnSwitch);
document.addEventListener("visibilitychange", lookNow);
keepLooking();
