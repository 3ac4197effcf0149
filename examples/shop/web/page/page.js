/** The page. What is shown follows what the shop tells; it works with the HTTP interface and nothing else. */
import { openCounter, showArticles, showImports, showMe } from "./counter.js";
import { $, call, write } from "./dom.js";
import { drawFlow, showBooks, showFlow } from "./flow.js";
import { lookAtMails, showOffice } from "./office.js";
import { choose, lookAtOrders, openOrders, showDue } from "./orders.js";
import { lookAtSurveys, openSurveys } from "./surveys.js";
import { drawTroubles, setAway, showTroubles, turnsSoFar } from "./troubles.js";

let drawn = false;

async function draw() {
  if (drawn) return;
  drawFlow(await call("policies"));
  drawn = true;
}

function showLink(state, text) {
  const link = $("link");
  if (link.dataset.state === state) return;
  link.dataset.state = state;
  write(link, text);
  setAway(state === "away");
}

/** Looks once; returns whether something is still on its way. */
async function look() {
  try {
    await Promise.all([draw(), showArticles(), showMe()]);
    const askedAt = turnsSoFar();
    const status = await call("status");
    showBooks(status);
    showFlow(status);
    showTroubles(status, askedAt);
    showImports(status.imports);
    showOffice(status);
    const [busy] = await Promise.all([lookAtOrders(status.orders), lookAtMails(), lookAtSurveys()]);
    showDue();
    showLink("live", "live");
    return busy || status.stations.some(({ waiting, running, retrying }) => waiting + running + retrying > 0);
  } catch (error) {
    showLink("away", "no answer, trying again");
    if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.warn(String(error));
    return true;
  }
}

let wake = () => {};
let again = false;

/** Often while something is on its way, seldom otherwise, not at all while nobody sees it. */
async function keepLooking() {
  for (;;) {
    again = false;
    const soon = document.visibilityState === "visible" && (await look());
    if (again) continue;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, soon ? 400 : 1_500);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function lookNow() {
  again = true;
  wake();
}

openCounter((id) => {
  if (id !== undefined) choose(id);
  lookNow();
});
openOrders(lookNow);
openSurveys(lookNow);
drawTroubles(lookNow);
document.addEventListener("visibilitychange", lookNow);
keepLooking();
