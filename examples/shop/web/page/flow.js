/** The books, and the picture of the flow: each queue and subscription with what is in it, and the effect that it leads to. */
import { $, el, grouped, write } from "./dom.js";

/** In the order of a message's way; `depth` says what follows from what. */
const lines = [
  {
    name: "imports",
    message: "ImportOrders",
    kind: "command",
    depth: 0,
    rare: true,
    does: "places orders",
  },
  { name: "payments", message: "CapturePayment", kind: "command", depth: 0, effect: "charges", does: "charges" },
  { name: "ledger", message: "PaymentCaptured", kind: "event", depth: 1, effect: "bookings", does: "bookings" },
  {
    name: "reports",
    message: "DeliverReport",
    kind: "command",
    depth: 2,
    effect: "reports",
    does: "report lines",
  },
  { name: "confirmations", message: "OrderPlaced", kind: "event", depth: 0, does: "says SendEmail" },
  { name: "email", message: "SendEmail", kind: "command", depth: 1, effect: "mails", does: "mails" },
  {
    name: "warehouse",
    message: "PickPiece",
    kind: "command",
    depth: 0,
    effect: "pieces",
    does: "pieces",
  },
  { name: "partner", message: "OrderPlaced", kind: "event", depth: 0, effect: "webhooks", does: "webhooks" },
  {
    name: "search-index",
    message: "OrderPlaced",
    kind: "event",
    depth: 0,
    effect: "documents",
    does: "documents",
  },
  {
    name: "sales-figures",
    message: "OrderPlaced",
    kind: "event",
    depth: 0,
    effect: "figures",
    does: "in the figures",
  },
  { name: "shipping", message: "OrderPlaced", kind: "event", depth: 0, effect: "shipments", does: "shipments" },
  { name: "to-shipping", message: "OrderPlaced", kind: "event", depth: 0, rare: true, does: "goes out by the broker" },
  {
    name: "tracking",
    message: "OrderShipped",
    kind: "event",
    depth: 1,
    effect: "parcels",
    rare: true,
    does: "parcels sent off",
  },
  { name: "surveys", message: "SurveyRegions", kind: "command", depth: 0, rare: true, does: "surveys" },
  {
    name: "welcome",
    message: "UserRegistered",
    kind: "event",
    depth: 0,
    effect: "welcomes",
    rare: true,
    does: "welcome mails",
  },
];

const counts = ["said", "waiting", "running", "retrying", "done", "dead"];

/** What happens when a message comes twice: the decision of the queue, and who keeps it. */
const twice = {
  payments: "The payment service knows the Idempotency-Key, charges once, and answers a repetition from its records.",
  email: "The mail server knows the Message-ID and drops the second.",
  partner: "The partner knows the webhook-id and drops the second.",
  "to-shipping": "The shipping department's inbox knows the event by its source and id, and takes it in once.",
  reports: "The mail has the same Message-ID; accounting books its lines once.",
  surveys: "It only reads, so it reads again.",
  welcome: "It only says SendEmail; that is written with its settlement, once.",
};
const twiceHere = "Its rows and its end are one commit: of two runs one is refused, and leaves nothing.";

const nothing = { said: 0, waiting: 0, running: 0, retrying: 0, done: 0, dead: 0, workers: 0 };

let policies = {};
let last;
const rows = new Map();

export function drawFlow(known) {
  policies = known;
  const body = el("tbody");
  for (const line of lines) body.append(...lineRows(line));
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "message → receiver"),
    ...counts.map((count) => el("th", { scope: "col", className: "number" }, count)),
    el("th", { scope: "col", className: "effect" }, "effect"),
    ...["lost", "repeated", "noticed"].map((count) => el("th", { scope: "col", className: "number" }, count)),
  );
  $("flow").replaceChildren(el("table", {}, el("thead", {}, head), body));
}

function lineRows({ name, message, kind, depth, effect, does }) {
  const bar = el("span", { className: "bar", ariaHidden: "true" });
  for (const part of ["done", "running", "waiting", "retrying", "dead"]) bar.append(el("i", { data: { part } }));
  const limit = el("span", { className: "line-limit" });
  const cells = { limit };
  const cell = (count) => {
    cells[count] = el("td", { className: "number", data: { count, label: count } }, "0");
    return cells[count];
  };
  const button = el(
    "button",
    { type: "button", className: "line-name", ariaExpanded: "false" },
    el("span", { className: "line-message" }, message),
    el("span", { className: "line-way" }, el("span", { className: "line-kind" }, `${kind} `), `→ ${name}`),
    bar,
    limit,
  );
  const row = el("tr", { className: "line", data: { name, depth } }, el("th", { scope: "row" }, button));
  row.append(...counts.map(cell));
  cells.there = el("b", {}, "");
  row.append(el("td", { className: "effect" }, cells.there, effect === undefined ? does : ` ${does}`));
  const noCount = () => el("td", { className: "number none" });
  row.append(...["lost", "repeated", "noticed"].map((count) => (effect === undefined ? noCount() : cell(count))));
  const answers = el("td", { colSpan: 11 });
  const more = el("tr", { className: "answers", hidden: true }, answers);
  button.addEventListener("click", () => {
    more.hidden = !more.hidden;
    button.ariaExpanded = String(!more.hidden);
    if (last !== undefined) showFlow(last);
  });
  rows.set(name, { row, more, bar, cells, answers });
  return [row, more];
}

function answersOf({ name, message, kind }, station) {
  const { words, idempotency } = policies[name] ?? {};
  const asks = {
    command: `No: ${message} asks for something to be done. Nobody waits; the receipt tells later.`,
    event: `No: ${message} says what happened. Nobody waits, and any number of subscriptions may listen.`,
  };
  const stored = "In the log, in the transaction that wrote its cause: both were committed, or neither.";
  const seen = `${grouped(station.waiting)} wait, ${grouped(station.running)} run, ${grouped(station.retrying)} are to be tried again, ${grouped(station.dead)} are dead; ${station.workers === 1 ? "one worker" : `${station.workers} workers`}.`;
  const pairs = [
    ["Is the result needed right now?", asks[kind]],
    ["What if it is delivered twice?", `idempotency: "${idempotency}". ${twice[name] ?? twiceHere}`],
    ["Where is it stored that this must happen?", stored],
    ["Where do I see backlog and failed work?", seen],
    ["The policy", words ?? ""],
  ];
  return el("dl", { className: "four" }, ...pairs.flatMap(([q, a]) => [el("dt", {}, q), el("dd", {}, a)]));
}

export function showFlow(status) {
  last = status;
  const { stations, effects } = status;
  const behind = behindInWords(status);
  const byName = new Map(effects.map((effect) => [effect.name, effect]));
  for (const line of lines) {
    // Without a broker there is no way out and none in.
    const station = stations.find(({ name }) => name === line.name) ?? nothing;
    const { row, more, bar, cells, answers } = rows.get(line.name);
    row.hidden = line.rare === true && station.said === 0;
    for (const count of counts) showCount(cells[count], station[count]);
    const open = station.waiting + station.running + station.retrying;
    write(cells.limit, (line.name === "warehouse" ? behind : undefined) ?? policies[line.name]?.limit ?? "");
    row.dataset.tone = station.dead > 0 ? "bad" : station.retrying > 0 ? "wait" : open > 0 ? "busy" : "good";
    for (const part of bar.children) {
      part.style.flexGrow = String(station[part.dataset.part] / Math.max(1, station.said));
    }
    const effect = byName.get(line.effect);
    if (effect !== undefined) {
      write(cells.there, grouped(effect.there));
      for (const count of ["lost", "repeated", "noticed"]) showCount(cells[count], effect[count]);
    }
    if (!more.hidden) {
      const next = answersOf(line, station);
      if (answers.textContent !== next.textContent) answers.replaceChildren(next);
    }
  }
}

function showCount(cell, value) {
  write(cell, grouped(value));
  cell.dataset.zero = String(value === 0);
}

/** Of an article that cannot be picked just now: the first that waits for it, and those behind. */
export function behindInWords({ stations, shelves }) {
  const { retrying, dead } = stations.find(({ name }) => name === "warehouse");
  const [first] = [...shelves].sort((a, b) => b.waiting - a.waiting);
  if (retrying + dead === 0 || first.waiting === 0) return undefined;
  const behind = first.waiting - 1;
  return `${first.article}: 1 ${dead > 0 ? "dead" : "put off"}, ${grouped(behind)} ${behind === 1 ? "waits" : "wait"} behind it`;
}

/* The books */

export function showBooks({ countedAt, orders, atListPrice, stations, effects, life }) {
  const sum = (list, field) => list.reduce((all, one) => all + one[field], 0);
  const dead = sum(stations, "dead");
  const open = sum(stations, "waiting") + sum(stations, "running") + sum(stations, "retrying");
  const tiles = [
    ["orders", orders, "", atListPrice > 0 ? `${grouped(atListPrice)} at the list price` : "each with its messages"],
    ["on their way", open, open > 0 ? "busy" : "", "waiting, running, or to be tried again"],
    ["dead letters", dead, dead > 0 ? "bad" : "", "given up, kept for you"],
    ["lost", sum(effects, "lost"), tone(sum(effects, "lost")), "effects that are missing for good"],
    ["repeated", sum(effects, "repeated"), tone(sum(effects, "repeated")), "effects that are there twice"],
    ["noticed", sum(effects, "noticed"), "", "came again, and were known by their key"],
    ["lives", life.life, "", `of this shop; process ${life.pid}`],
  ];
  if ($("tiles").children.length === 0) {
    $("tiles").append(
      ...tiles.map(([name]) => el("div", { data: { tile: name } }, el("dt", {}, name), el("dd"), el("p"))),
    );
  }
  for (const [i, [, value, state, note]] of tiles.entries()) {
    const tile = $("tiles").children[i];
    tile.dataset.tone = state;
    write(tile.querySelector("dd"), grouped(value));
    write(tile.querySelector("p"), note);
  }
  $("tiles").dataset.countedAt = countedAt;
  $("tiles").title = `counted at ${new Date(countedAt).toLocaleTimeString()}`;
}

const tone = (count) => (count > 0 ? "bad" : "good");
