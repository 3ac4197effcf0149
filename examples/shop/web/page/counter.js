/** The counter: articles, prices, placing orders; and who you are. */
import { $, call, el, euros, grouped, icon, Refused, write } from "./dom.js";

const form = $("form");
const place = form.querySelector(".place");
const fields = ["email", "postalCode"];

export async function showArticles() {
  if ($("articles").children.length > 0) return;
  const articles = await call("articles");
  $("articles").replaceChildren(
    ...articles.map(({ sku, name, about }, i) =>
      el(
        "label",
        { className: "article" },
        el("input", { type: "radio", name: "sku", value: sku, checked: i === 0 }),
        icon(sku),
        el("span", { className: "article-name" }, name),
        el("span", { className: "article-about" }, about),
      ),
    ),
  );
  showPrice(articles[0].sku);
}

/** Answers may come in another order than the questions: only the last one counts. */
let asked = 0;

async function showPrice(sku) {
  asked += 1;
  const mine = asked;
  write($("price-note"), "asking …");
  const shown = await call(`price/${encodeURIComponent(sku)}`).then(
    ({ cents, tookMs }) => [euros(cents), `PriceOf was answered in ${tookMs} ms`],
    (error) => ["–", priceTrouble(error)],
  );
  if (mine === asked) [$("price").textContent, $("price-note").textContent] = shown;
}

function priceTrouble(error) {
  if (!(error instanceof Refused)) return "The shop cannot be reached.";
  return error.status === 503
    ? "PriceOf was not answered within 2 s. You can order all the same, at the list price."
    : error.message;
}

function say(text, state = "good") {
  $("said").dataset.state = state;
  write($("said"), text);
}

/** Puts each error beside its field, and the cursor into the first one. */
function showWrong(errors) {
  const of = (field) => errors.find(({ pointer }) => pointer === `#/${field}`)?.detail;
  write($("sku-wrong"), of("sku") === undefined ? "" : "Choose an article.");
  for (const name of fields) {
    write($(`${name}-wrong`), of(name) === undefined ? "" : `This ${of(name)}.`);
    $(name).setAttribute("aria-invalid", String(of(name) !== undefined));
  }
  fields
    .map($)
    .find((field) => field.ariaInvalid === "true")
    ?.focus();
}

function wish() {
  const { sku = "", email = "", postalCode = "" } = Object.fromEntries(new FormData(form));
  return { sku, email: email.trim(), postalCode: postalCode.trim() };
}

/** The number of this order form. It stays until an answer has come or something else stands in the form: what is sent again is the same order. */
let number = crypto.randomUUID();

const renew = () => {
  number = crypto.randomUUID();
};

/** Sends the form as it stands now. */
function send() {
  return call("orders", { method: "POST", body: wish(), headers: { "idempotency-key": number } });
}

async function order(ask, done) {
  if (place.ariaDisabled === "true") return;
  place.ariaDisabled = "true";
  say("");
  try {
    const answer = await ask();
    showWrong([]);
    renew();
    done(answer);
  } catch (error) {
    // After any other refusal it is not known here whether the order was placed.
    if (error instanceof Refused && error.status < 500) renew();
    showWrong(error.errors ?? []);
    if (error.errors?.length) return;
    const text =
      error instanceof Refused
        ? error.message
        : "The shop cannot be reached. Send it again: if it was placed, it is not placed twice.";
    say(text, "bad");
  } finally {
    place.ariaDisabled = "false";
  }
}

/** `onPlaced(id)` is called with the id of a single order, and without one for many. */
export function openCounter(onPlaced) {
  $("articles").addEventListener("change", ({ target }) => {
    write($("sku-wrong"), "");
    showPrice(target.value);
  });
  form.addEventListener("input", renew);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    order(send, ({ id }) => {
      say(`Order ${id.slice(0, 8)} is placed.`);
      onPlaced(id);
    });
  });
  $("twice").addEventListener("click", () =>
    order(
      () => Promise.all([send(), send()]),
      (answers) => {
        const ids = new Set(answers.map(({ id }) => id));
        const [id] = ids;
        say(`Sent twice at once: ${ids.size === 1 ? "one order" : "two orders"}, ${id.slice(0, 8)}.`);
        onPlaced(id);
      },
    ),
  );
  for (const button of form.querySelectorAll("[data-count]")) {
    const count = Number(button.dataset.count);
    button.addEventListener("click", () =>
      order(
        () => call("imports", { method: "POST", body: { ...wish(), count } }),
        () => {
          say(`${grouped(count)} orders will be placed, whatever happens to this process.`);
          onPlaced();
        },
      ),
    );
  }
  openDoor();
}

export function showImports(imports) {
  const open = imports.filter(({ placed, total }) => placed < total);
  const sum = (field) => open.reduce((all, one) => all + one[field], 0);
  $("import").hidden = open.length === 0;
  if (open.length > 0) $("import").value = sum("placed") / sum("total");
}

/* Who you are */

let known;

function showWho(email) {
  known = email;
  write($("who"), email ?? "guest");
  write($("account"), email === null ? "Log in" : "Log out");
  if (email !== null) $("email").value = email;
}

export async function showMe() {
  if (known === undefined) showWho((await call("me")).email);
}

async function enter(path) {
  write($("door-wrong"), "");
  const body = { email: $("door-email").value.trim(), password: $("door-password").value };
  try {
    showWho((await call(path, { method: "POST", body })).email);
    $("door").close();
  } catch (error) {
    const words = { "#/email": "The e-mail address", "#/password": "The password" };
    const [first] = error.errors ?? [];
    const text = first === undefined ? undefined : `${words[first.pointer]} ${first.detail}.`;
    write($("door-wrong"), text ?? (error instanceof Refused ? error.message : "The shop cannot be reached."));
  }
}

function openDoor() {
  $("account").addEventListener("click", async () => {
    if (known !== null) showWho((await call("session", { method: "DELETE" })).email);
    else $("door").showModal();
  });
  $("door-form").addEventListener("submit", (event) => {
    event.preventDefault();
    enter("session");
  });
  $("register").addEventListener("click", () => enter("users"));
  $("door-close").addEventListener("click", () => $("door").close());
}
