/** The switches: what each does, what you should see, and what of it counts. */
import { $, call, el, grouped, write } from "./dom.js";
import { behindInWords } from "./flow.js";

const troubles = [
  {
    name: "mail-down",
    title: "Mail server down",
    see: "It answers 451. SendEmail is tried again, less and less often. Mend it, and each mail arrives once; nothing else was held up.",
    effects: ["mails", "welcomes"],
  },
  {
    name: "pricing-down",
    title: "Pricing down",
    see: "PriceOf is silent. The question fails at its deadline of 2 s; the order is taken all the same, at the list price.",
    effects: [],
    fact: ({ atListPrice }) => `${grouped(atListPrice)} at the list price`,
  },
  {
    name: "payment-slow",
    title: "Payment service slow",
    see: "It takes 3 s, the shop waits 2. The charge is made and not known here: it is asked for again, with the same key, and made once.",
    effects: ["charges"],
  },
  {
    name: "payment-answers-lost",
    title: "Payment answers lost",
    see: "It charges, and the line breaks before the answer. The shop asks twice; the service notices the key, and charges once.",
    effects: ["charges"],
  },
  {
    name: "sold-out",
    title: "Post horns sold out",
    see: "Who ordered first waits for the next horn, and who ordered later waits behind: in order, per article. Other articles go on. Turn it back, and each gets their piece in turn.",
    effects: ["pieces"],
    fact: (status) => behindInWords(status) ?? `${grouped(status.outOfTurn)} out of turn`,
  },
  {
    name: "broker-down",
    title: "Message broker down",
    see: "It refuses connections. Orders are taken, and wait in the log for the shipping department: nothing fails, and no attempt is burnt. Mend it, and they go out in order; each parcel is sent off once.",
    effects: ["parcels"],
  },
  {
    name: "delivered-twice",
    title: "Every message delivered twice",
    see: "Each handler does its work, and its success is lost. The second delivery finds the effect: noticed by its key, or rolled back.",
    effects: "all",
  },
  {
    name: "kill",
    title: "SIGKILL in mid-handler",
    see: "The next payment is taken, and the process dies before it can note that. The supervisor starts it again; the service is asked again, and charges once.",
    effects: "all",
    fact: ({ life }) => `life ${life.life}, process ${life.pid}`,
  },
];

const cards = new Map();

/** Counts the beginnings and ends of turns: a status that was asked for before the last of them may show a switch as it was. */
let turns = 0;
export const turnsSoFar = () => turns;

/** `onTurned()` is called after a switch was turned. */
export function drawTroubles(onTurned) {
  $("troubles").replaceChildren(...troubles.map((trouble) => card(trouble, onTurned)));
}

function card({ name, title, see }, onTurned) {
  const id = `trouble-${name}`;
  const button = el(
    "button",
    { className: "switch", type: "button", role: "switch", ariaChecked: "false" },
    el("span"),
  );
  button.setAttribute("aria-labelledby", id);
  button.setAttribute("aria-describedby", `${id}-see`);
  const counts = el("p", { className: "trouble-counts" });
  button.addEventListener("click", async () => {
    const on = button.ariaChecked !== "true";
    button.ariaChecked = String(on);
    turns += 1;
    await call(`troubles/${name}`, { method: "PUT", body: { on } }).then(showSwitches, () => {});
    turns += 1;
    onTurned();
  });
  cards.set(name, { button, counts });
  return el(
    "article",
    { className: "trouble card", data: { trouble: name } },
    el("h3", { id }, title),
    button,
    el("p", { className: "trouble-see", id: `${id}-see` }, see),
    counts,
  );
}

export function showSwitches(states) {
  for (const [name, { button }] of cards) button.ariaChecked = String(states[name]);
}

/** `askedAt`: the turns when the status was asked for. */
export function showTroubles(status, askedAt) {
  if (askedAt === turns) showSwitches(status.troubles);
  for (const { name, effects, fact } of troubles) {
    const { counts } = cards.get(name);
    const mine = status.effects.filter((effect) => effects === "all" || effects.includes(effect.name));
    const sum = (field) => mine.reduce((all, one) => all + one[field], 0);
    const texts = mine.length === 0 ? [] : ["lost", "repeated", "noticed"].map((field) => [field, sum(field)]);
    const shown = [
      ...(fact === undefined ? [] : [el("span", {}, fact(status))]),
      ...texts.map(([field, count]) =>
        el(
          "span",
          { data: { count: field, wrong: String(field !== "noticed" && count > 0) } },
          el("b", {}, grouped(count)),
          ` ${field}`,
        ),
      ),
    ];
    if (counts.textContent !== shown.map(({ textContent }) => textContent).join("")) counts.replaceChildren(...shown);
  }
}

export function setAway(away) {
  write($("troubles-title").firstChild, away ? "Make it hard (the shop is being started again) " : "Make it hard ");
}
