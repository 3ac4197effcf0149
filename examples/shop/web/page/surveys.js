/** The survey of regions: asked for, waited for with its progress, taken back, and shown. */
import { $, call, el, euros, grouped, Refused, write } from "./dom.js";

const words = {
  queued: "waits",
  running: "reads",
  retrying: "is tried again",
  succeeded: "done",
  cancelled: "taken back",
};
const tones = { queued: "busy", running: "busy", retrying: "wait", succeeded: "good" };
const over = ["succeeded", "cancelled", "dead"];

function say(text, state = "good") {
  $("survey-said").dataset.state = state;
  write($("survey-said"), text);
}

/** `lookNow()` is called when something has changed. */
export function openSurveys(lookNow) {
  look = lookNow;
  const ask = $("survey");
  ask.addEventListener("click", async () => {
    if (ask.ariaDisabled === "true") return;
    ask.ariaDisabled = "true";
    try {
      await call("surveys", { method: "POST", body: {} });
      say("");
    } catch (error) {
      // A queue that is full says when to come back; so the words are the shop's.
      say(error instanceof Refused ? error.message : "The shop cannot be reached.", "bad");
    }
    ask.ariaDisabled = "false";
    lookNow();
  });
}

let look = () => {};
const shown = new Map();

export async function lookAtSurveys() {
  const surveys = await call("surveys");
  $("surveys-empty").hidden = surveys.length > 0;
  const items = surveys.map(itemOf);
  if (items.some((item, i) => $("surveys").children[i] !== item) || items.length !== $("surveys").children.length) {
    $("surveys").replaceChildren(...items);
  }
  showResult(surveys.find(({ result }) => result !== null)?.result);
}

/** One element for each, so that a button under the pointer stays what it is while the progress moves. */
function itemOf({ id, state, progress }) {
  const { item, name, bar, back } = shown.get(id) ?? draw(id);
  item.dataset.state = state;
  name.dataset.tone = tones[state] ?? "bad";
  write(name, words[state] ?? state);
  bar.value = state === "succeeded" ? 1 : (progress ?? 0);
  back.hidden = over.includes(state);
  return item;
}

function draw(id) {
  const name = el("span", { className: "state" });
  const bar = el("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", "Regions that were read");
  const back = el("button", { type: "button", className: "plain", title: "Take this survey back" }, "Take back");
  back.addEventListener("click", async () => {
    await call(`surveys/${id}`, { method: "DELETE" }).catch(() => undefined);
    look();
  });
  const parts = { item: el("li", { className: "new" }, name, bar, back), name, bar, back };
  shown.set(id, parts);
  return parts;
}

/** So many regions; the others are told as a sum. */
const most = 6;
let drawn = "";

function showResult(result) {
  const json = JSON.stringify(result) ?? "";
  if (json === drawn) return;
  drawn = json;
  if (result === undefined) return $("survey-result").replaceChildren();
  const { orders, regions } = result;
  const rest = regions.slice(most).reduce((sum, region) => sum + region.orders, 0);
  const bars = regions.slice(0, most).map((region) => {
    const bar = el("span", { className: "amount", ariaHidden: "true" }, el("i"));
    bar.firstChild.style.width = `${(100 * region.orders) / regions[0].orders}%`;
    return el(
      "div",
      {},
      el("dt", {}, region.region),
      el("dd", {}, bar, `${grouped(region.orders)} · ${euros(region.cents)}`),
    );
  });
  const sum = `${grouped(orders)} orders${rest > 0 ? `; ${grouped(rest)} of them to ${regions.length - most} smaller regions` : ""}`;
  $("survey-result").replaceChildren(el("p", { className: "hint" }, sum), el("dl", {}, ...bars));
}
