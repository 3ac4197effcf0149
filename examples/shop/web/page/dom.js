/** Small things that all parts of the page use. */

export const $ = (id) => document.getElementById(id);

const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });

export const euros = (cents) => money.format(cents / 100);
export const grouped = (number) => numbers.format(number);
export const time = (when) => clock.format(new Date(when));

/** A refusal of the shop, with its problem document. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "The shop refused.");
    this.status = problem.status;
    this.errors = problem.errors ?? [];
  }
}

export async function call(path, { method = "GET", body, headers = {} } = {}) {
  const response = await fetch(path, {
    method,
    signal: AbortSignal.timeout(10_000),
    headers: body === undefined ? headers : { ...headers, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const json = await response.json();
  if (!response.ok) throw new Refused(json);
  return json;
}

/** `el("p", { className: "x" }, "text", child)` */
export function el(name, properties = {}, ...children) {
  const { data = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/** Writes only what changed: a selection stays, and nothing flickers. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Keeps the elements of what did not change. */
export function lister(list, keyOf, itemOf) {
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
    const empty = $(`${list.id}-empty`);
    if (empty !== null) empty.hidden = values.length > 0;
    shown = next;
  };
}
