/**
 * The program of the page: when something was caught it fetches the page again and takes over the items that are new. Items do not
 * change, so what somebody has opened stays as it is.
 */
export const script = `const state = document.getElementById("state");
const live = (text) => { state.dataset.live = text; state.textContent = text; };
// The page was made by a server that does not know where its reader is.
const inLocalTime = (root) => {
  for (const time of root.querySelectorAll("time")) time.textContent = new Date(time.dateTime).toLocaleTimeString();
};
async function refresh() {
  const response = await fetch("/");
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  inLocalTime(fresh);
  for (const id of ["mails", "webhooks"]) {
    const [here, there] = [document, fresh].map((page) => page.getElementById(id));
    const list = here.querySelector(".items");
    const items = [...there.querySelector(".items").children];
    const ids = new Set(items.map((item) => item.id));
    for (const old of [...list.children]) if (!ids.has(old.id)) old.remove();
    for (const item of items.reverse()) if (document.getElementById(item.id) === null) list.prepend(item);
    here.querySelector(".count").textContent = there.querySelector(".count").textContent;
    here.querySelector(".hint").hidden = there.querySelector(".hint").hidden;
  }
}
inLocalTime(document);
let running = false;
let again = false;
async function changed() {
  if (running) { again = true; return; }
  running = true;
  do { again = false; await refresh().catch(() => undefined); } while (again);
  running = false;
}
const changes = new EventSource("/changes");
changes.onopen = () => live("live");
changes.onerror = () => live("posthorn dev does not answer");
changes.onmessage = changed;
document.getElementById("clear").onclick = () => fetch("/caught", { method: "DELETE" }).catch(() => undefined);
`;
