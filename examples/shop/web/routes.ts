/** What the shop answers, path by path. */
import type { IncomingMessage } from "node:http";
import { performance } from "node:perf_hooks";
import { z } from "zod";
import { Email, PostalCode, PriceOf, Sku } from "../contracts.js";
import { policies, type statusReader } from "../demo/status.js";
import { travelOf } from "../demo/travel.js";
import { type Troubles, troubleNames } from "../demo/troubles.js";
import { type Customer, closeSession, logIn, openSession, register } from "../features/accounts.js";
import { orderFor, ordersOf, placeOrder, startImport } from "../features/orders.js";
import { parcelOf } from "../features/parcels.js";
import { articles, UnknownArticle } from "../features/prices.js";
import { closeBooks } from "../features/report.js";
import { searchOrders } from "../features/search.js";
import { shipmentOf } from "../features/shipping.js";
import { askForSurvey, cancelSurvey, surveyOf, surveysOf } from "../features/survey.js";
import { pieceOf } from "../features/warehouse.js";
import { post } from "../post.js";
import { mails, mailsAbout } from "../services/mailbox.js";
import { readJson } from "./body.js";
import { Problem } from "./problem.js";
import { cookie, customerIn, customerOrGuest, tokenIn } from "./session.js";

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly file?: string;
}

/** `part` is what the group of the route's path matched. */
export type Answer = (request: IncomingMessage, part: string, query: URLSearchParams) => Reply | Promise<Reply>;

export interface Route {
  readonly path: RegExp;
  readonly answers: Readonly<Record<string, Answer>>;
}

const wish = { sku: Sku, email: Email, postalCode: PostalCode };
const NewOrder = z.strictObject(wish);
const NewImport = z.strictObject({ ...wish, count: z.int().min(1).max(10_000) });
const Password = z.string().min(10, "has fewer than 10 letters").max(200, "has more than 200 letters");
const NewUser = z.strictObject({ email: Email, password: Password });
const LogIn = z.strictObject({ email: Email, password: z.string().max(200) });
const Switch = z.strictObject({ on: z.boolean() });
const SearchText = z
  .string("is missing")
  .trim()
  .min(1, "is empty")
  .max(200, "is longer than 200 letters")
  .regex(/^\P{Cc}*$/u, "has control characters");

export function routes(status: ReturnType<typeof statusReader>, troubles: Troubles): readonly Route[] {
  return [
    { path: /^\/()$/, answers: { GET: () => ({ file: "page.html" }) } },
    { path: /^\/([a-z-]+\.(?:css|js)|icon\.svg)$/, answers: { GET: (_request, file) => ({ file }) } },
    { path: /^\/articles()$/, answers: { GET: async () => ({ json: await articles() }) } },
    { path: /^\/price\/([^/]+)$/, answers: { GET: (_request, sku) => price(sku) } },
    { path: /^\/me()$/, answers: { GET: me } },
    { path: /^\/users()$/, answers: { POST: newUser } },
    { path: /^\/session()$/, answers: { POST: newSession, DELETE: endSession } },
    { path: /^\/orders()$/, answers: { GET: myOrders, POST: newOrder } },
    { path: /^\/orders\/([^/]+)$/, answers: { GET: oneOrder } },
    { path: /^\/imports()$/, answers: { POST: newImport } },
    { path: /^\/search()$/, answers: { GET: search } },
    { path: /^\/mails()$/, answers: { GET: async () => ({ json: await mails() }) } },
    { path: /^\/reports()$/, answers: { POST: newReport } },
    { path: /^\/surveys()$/, answers: { GET: mySurveys, POST: newSurvey } },
    { path: /^\/surveys\/([^/]+)$/, answers: { GET: oneSurvey, DELETE: endSurvey } },
    { path: /^\/policies()$/, answers: { GET: () => ({ json: policies() }) } },
    { path: /^\/status()$/, answers: { GET: async () => ({ json: await status() }) } },
    { path: /^\/troubles\/([^/]+)$/, answers: { PUT: (request, name) => turn(request, name, troubles) } },
  ];
}

async function price(sku: string): Promise<Reply> {
  if (!Sku.safeParse(sku).success) throw new UnknownArticle(sku);
  const began = performance.now();
  const { cents } = await post.ask(PriceOf, { sku });
  return { json: { sku, cents, tookMs: Math.round((performance.now() - began) * 10) / 10 } };
}

/* Accounts */

/** Gives who has none a session, before their first order: of two clicks both have to come from one guest. */
async function me(request: IncomingMessage): Promise<Reply> {
  const { customer, headers } = await customerOrGuest(request);
  return { headers, json: { email: customer.email } };
}

async function newUser(request: IncomingMessage): Promise<Reply> {
  const { email, password } = await readJson(request, NewUser);
  const guest = await customerIn(request);
  const userId = await register(email, password);
  return enter(request, guest?.guestId, userId, email, 201);
}

async function newSession(request: IncomingMessage): Promise<Reply> {
  const { email, password } = await readJson(request, LogIn);
  const guest = await customerIn(request);
  const userId = await logIn(email, password);
  if (userId === null) throw new Problem(401, "The e-mail address or the password is wrong.");
  return enter(request, guest?.guestId, userId, email, 201);
}

async function enter(
  request: IncomingMessage,
  guestId: string | undefined,
  userId: string,
  email: string,
  status: number,
): Promise<Reply> {
  const token = await openSession(guestId, userId);
  const before = tokenIn(request);
  if (before !== undefined) await closeSession(before);
  return { status, headers: cookie(token), json: { email } };
}

async function endSession(request: IncomingMessage): Promise<Reply> {
  const token = tokenIn(request);
  if (token !== undefined) await closeSession(token);
  return { headers: cookie(await openSession(undefined, null)), json: { email: null } };
}

/* Orders */

async function newOrder(request: IncomingMessage): Promise<Reply> {
  const form = formIn(request);
  const order = await readJson(request, NewOrder);
  const { customer, headers } = await customerOrGuest(request);
  const { id, again } = await withArticle(() => placeOrder(order, customer, form));
  return { status: again ? 200 : 201, headers: { ...headers, location: `/orders/${id}` }, json: { id, again } };
}

/** Programs may leave it out: then each request is an order of its own. */
function formIn({ headers }: IncomingMessage): string | undefined {
  const form = headers["idempotency-key"];
  if (form === undefined || z.uuid().safeParse(form).success) return form?.toString();
  throw new Problem(400, "The Idempotency-Key is not a UUID.");
}

/** 202: it is certain that they will be placed, and not yet done. */
async function newImport(request: IncomingMessage): Promise<Reply> {
  const wanted = await readJson(request, NewImport);
  const { customer, headers } = await customerOrGuest(request);
  const id = await withArticle(() => startImport(wanted, customer));
  return { status: 202, headers, json: { id, total: wanted.count } };
}

async function withArticle<T>(place: () => Promise<T>): Promise<T> {
  try {
    return await place();
  } catch (error) {
    if (!(error instanceof UnknownArticle)) throw error;
    throw new Problem(422, error.message, { errors: [{ pointer: "#/sku", detail: "is not an article of this shop" }] });
  }
}

async function myOrders(request: IncomingMessage): Promise<Reply> {
  const customer = await customerIn(request);
  return { json: customer === undefined ? [] : await ordersOf(customer) };
}

/** The same answer for an order of somebody else and for one that does not exist. */
async function oneOrder(request: IncomingMessage, id: string): Promise<Reply> {
  const customer = z.uuid().safeParse(id).success ? await customerIn(request) : undefined;
  const order = customer === undefined ? undefined : await orderFor(id, customer);
  if (order === undefined) throw new Problem(404, "You have no such order.");
  const shipment = (await shipmentOf(id)) ?? null;
  const piece = (await pieceOf(id)) ?? null;
  const parcel = (await parcelOf(id)) ?? null;
  return { json: { ...order, shipment, piece, parcel, messages: await travelOf(id), mails: await mailsAbout(id) } };
}

async function search(request: IncomingMessage, _part: string, query: URLSearchParams): Promise<Reply> {
  const checked = SearchText.safeParse(query.get("q") ?? undefined);
  if (!checked.success) throw new Problem(400, `The search text q ${checked.error.issues[0]?.message ?? "is wrong"}.`);
  const customer = await customerIn(request);
  return { json: customer === undefined ? { total: 0, hits: [] } : await searchOrders(checked.data, customer) };
}

/* Behind the counter */

async function newReport(request: IncomingMessage): Promise<Reply> {
  await readJson(request, z.strictObject({}));
  const id = await closeBooks();
  return id === undefined ? { json: { id: null } } : { status: 201, json: { id } };
}

async function mySurveys(request: IncomingMessage): Promise<Reply> {
  const customer = await customerIn(request);
  return { json: customer === undefined ? [] : await surveysOf(customer) };
}

/** 202: it is certain that it will be made. 503 with Retry-After when too many wait already: see problem.ts. */
async function newSurvey(request: IncomingMessage): Promise<Reply> {
  await readJson(request, z.strictObject({}));
  const { customer, headers } = await customerOrGuest(request);
  const id = await askForSurvey(customer);
  return { status: 202, headers: { ...headers, location: `/surveys/${id}` }, json: { id } };
}

async function oneSurvey(request: IncomingMessage, id: string): Promise<Reply> {
  return { json: await theirs(request, (customer) => surveyOf(id, customer)) };
}

async function endSurvey(request: IncomingMessage, id: string): Promise<Reply> {
  return { json: { answer: await theirs(request, (customer) => cancelSurvey(id, customer)) } };
}

async function theirs<T>(request: IncomingMessage, find: (customer: Customer) => Promise<T | undefined>): Promise<T> {
  const customer = await customerIn(request);
  const found = customer === undefined ? undefined : await find(customer);
  if (found === undefined) throw new Problem(404, "You have no such survey.");
  return found;
}

async function turn(request: IncomingMessage, name: string, troubles: Troubles): Promise<Reply> {
  const known = troubleNames.find((one) => one === name);
  if (known === undefined) throw new Problem(404, `There is no such switch. There are ${troubleNames.join(", ")}.`);
  await troubles.set(known, (await readJson(request, Switch)).on);
  return { json: troubles };
}
