/**
 * Goal: who runs a service notices that it refuses what is sent to it, in the log, in the figures and by an alert; and that messages fit nothing.
 * Method: webhooks of a sender with another secret to an intake of its own database; the fleet's look at its rules is called, not waited for.
 */
import type { Post, Sql } from "posthorn";
import { newWebhookSecret, type WebhookIntake, webhookIntake } from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { expect, test } from "vitest";
import { posthornCommand } from "../cli/command.js";
import { eventually } from "../support/eventually.js";
import { fresh, instance, listening, OrderPlaced, onServer, rows, type Told, url } from "./stage.js";

onServer();

const secret = newWebhookSecret();

function posted(id: string, key = secret, data: object = { orderId: id, cents: 1 }): Request {
  const body = JSON.stringify({ specversion: "1.0", source: "urn:partner", id, type: "OrderPlaced", data });
  const at = Math.floor(Date.now() / 1000);
  return new Request("http://shop/hooks", {
    method: "POST",
    headers: {
      "content-type": "application/cloudevents+json",
      "webhook-id": id,
      "webhook-timestamp": String(at),
      "webhook-signature": new Oracle(key).sign(id, new Date(at * 1000), body),
    },
    body,
  });
}

interface Place {
  readonly post: Post<Sql>;
  readonly hooks: WebhookIntake;
  readonly told: readonly Told[];
}

let places = 0;
/** As another process would be. */
async function place(name: string, { start = true, alerts = {} } = {}): Promise<Place> {
  const hooks = webhookIntake({ secrets: [secret] });
  const { logger, told } = listening();
  places += 1;
  const post = instance("shipping", logger, `${url()}?application_name=refused-${places}`);
  post.intake(name, { from: hooks, into: [OrderPlaced], alerts });
  if (start) await post.start();
  return { post, hooks, told };
}

const line = async ({ post }: Place, name: string) => (await post.intakes()).find((one) => one.name === name);
/** But for what is said of the intakes of the tests before. */
const warned = ({ told }: Place) =>
  told.filter(({ level, facts }) => level === "warn" && !("before" in facts)).map(({ message }) => message);
/** After the look of the fleet that comes each few seconds: what stands open for this name. */
async function alerts(name: string): Promise<readonly Record<string, unknown>[]> {
  // It is nobody's turn while a worker looks.
  await eventually(
    async () => (await rows<{ looked: unknown }>("select posthorn.watch(0) as looked"))[0]?.looked !== null,
  );
  return rows(
    "select alert, value::int, threshold::int, detail from posthorn.alerts where subscription = $1 and resolved_at is null order by alert",
    [name],
  );
}
const none = /signed with none of its secrets/;

test("webhooks that are signed with another secret are told to the log, counted for all processes, and raise one alert, which ends with the process that refused them", async () => {
  const name = fresh("refused");
  const [one, other] = [await place(name), await place(name)];
  const wrong = newWebhookSecret();
  const refuse = async (at: Place, id: string) => expect((await at.hooks.fetch(posted(id, wrong))).status).toBe(401);
  await refuse(one, "r-1");
  expect(warned(one)).toEqual([expect.stringMatching(none)]);
  await refuse(one, "r-2");
  await eventually(async () => (await line(one, name))?.refused === 2);
  expect(await alerts(name)).toEqual([]);
  await refuse(other, "r-3");
  await eventually(async () => (await line(one, name))?.refused === 3);
  const open = { alert: "intakeRefused", value: 3, threshold: 3, detail: expect.stringMatching(none) };
  expect(await alerts(name)).toEqual([open]);
  expect(await line(other, name)).toMatchObject({
    refusal: expect.stringMatching(none),
    refusedAt: expect.any(String),
    connected: true,
    trouble: null,
    received: 0,
  });
  // A right one goes through beside it, and mends nothing: it may be another sender's.
  expect((await one.hooks.fetch(posted("r-4"))).status).toBe(204);
  for (let i = 0; i < 500; i += 1) await refuse(one, `f-${i}`);
  await eventually(async () => (await line(one, name))?.refused === 503);
  expect(await alerts(name)).toEqual([open]);
  expect(await rows("select from posthorn.alerts where subscription = $1", [name])).toHaveLength(1);
  const status = await posthornCommand(["status", "--database", url()]);
  expect(status.code).toBe(1);
  expect(status.out).toMatch(
    new RegExp(`^${name} has refused 503 messages, the last at .+: answered 401, signed with none`, "m"),
  );
  expect(status.out).toMatch(new RegExp(`^${name} +intakeRefused +answered 401`, "m"));

  // As a deployment with the right secret: the old process ends.
  await one.post.stop();
  expect(warned(one)).toHaveLength(2);
  expect(warned(one)[1]).toMatch(
    /^the intake ".+" has refused 501 messages at its fetch handler in .+: 501 answered 401/,
  );
  expect(await alerts(name)).toEqual([]);
  expect(await line(other, name)).toMatchObject({ refused: 503, received: 1 });
  const all = JSON.stringify([
    one.told,
    other.told,
    await rows("select * from posthorn.intake, posthorn.intake_holder, posthorn.alert"),
  ]);
  for (const kept of [secret, wrong, secret.slice(6), wrong.slice(6), "r-1", "f-7"]) expect(all).not.toContain(kept);
});

test("an open alert says why the newest message was refused; it went on with the reason of the first", async () => {
  const name = fresh("newest");
  const at = await place(name);
  const wrong = newWebhookSecret();
  for (const id of ["n-1", "n-2", "n-3"]) expect((await at.hooks.fetch(posted(id, wrong))).status).toBe(401);
  await eventually(async () => (await line(at, name))?.refused === 3);
  expect(await alerts(name)).toMatchObject([{ detail: expect.stringMatching(none) }]);
  const old = posted("n-4");
  old.headers.set("webhook-timestamp", "1000000000");
  expect((await at.hooks.fetch(old)).status).toBe(401);
  await eventually(async () => (await line(at, name))?.refused === 4);
  expect(await alerts(name)).toMatchObject([{ detail: expect.stringContaining("sent longer ago than toleranceMs") }]);
});

test("what an open port gets from anybody raises no alert, and is in the figures", async () => {
  const name = fresh("open");
  const at = await place(name, { alerts: { refused: 1 } });
  for (let i = 0; i < 50; i += 1) {
    const request = new Request(`http://shop/hooks?${i}`, {
      method: "POST",
      headers: { "webhook-id": `x${i}` },
      body: `${i}`,
    });
    expect((await at.hooks.fetch(request)).status).toBe(401);
  }
  await eventually(async () => (await line(at, name))?.refused === 50);
  expect(await line(at, name)).toMatchObject({
    refusal: expect.stringMatching(/without webhook-id, webhook-timestamp and webhook-signature,/),
  });
  expect(await alerts(name)).toEqual([]);
  expect(warned(at)).toHaveLength(1);
});

test("a flood is one line of the log and not one write to the database each, whatever its headers say", async () => {
  const name = fresh("flood");
  const at = await place(name);
  await rows("create sequence public.writes");
  await rows(
    "create function public.count_writes() returns trigger language plpgsql as $$ begin perform nextval('public.writes'); return null; end $$",
  );
  for (const table of ["intake", "intake_holder", "intake_invalid", "inbox", "alert"])
    await rows(
      `create trigger counting after insert or update or delete on posthorn.${table} for each row execute function public.count_writes()`,
    );
  const flood = 3_000;
  const wrong = newWebhookSecret();
  for (let i = 0; i < flood; i += 1) {
    const request = posted(`${i}`, wrong);
    request.headers.set("user-agent", `\u00e9 ${i} 2026-01-01 ERROR the intake "x" is gone`);
    if (i % 3 === 1) request.headers.set("webhook-timestamp", `${i}`);
    if (i % 3 === 2) request.headers.set("webhook-signature", `v1,${"=".repeat(i)}`);
    expect((await at.hooks.fetch(request)).status).toBe(401);
  }
  await eventually(async () => (await line(at, name))?.refused === flood);
  const [{ count } = { count: flood }] = await rows<{ count: number }>("select nextval('public.writes')::int as count");
  // One or two a second: what is reported each second anyway.
  expect(count).toBeLessThan(flood / 10);
  await at.post.stop();
  expect(warned(at)).toEqual([
    expect.stringMatching(/ has refused 1 message at its fetch handler: answered 401, signed with none of its secrets/),
    expect.stringMatching(
      / has refused 2,999 messages at .+: 1,999 answered 401, signed with none .+; 1,000 answered 401, sent longer ago/,
    ),
  ]);
  for (const { message } of at.told) expect(message).not.toMatch(/"x" is gone|[\p{Cc}]/u);
});

test("a process that declares an intake and has not started it says so when it is posted to", async () => {
  const at = await place(fresh("idle"), { start: false });
  expect((await at.hooks.fetch(posted("i-1"))).status).toBe(503);
  expect(warned(at)).toEqual([
    expect.stringMatching(/no intake takes webhooks in this process: it was not started here/),
  ]);
});

test("a message that fits nothing raises an alert until it is redriven or discarded, and `status` ends with 1 meanwhile", async () => {
  const name = fresh("unfit");
  const at = await place(name);
  expect(await alerts(name)).toEqual([]);
  expect((await at.hooks.fetch(posted("u-1", secret, {}))).status).toBe(204);
  expect(await alerts(name)).toEqual([{ alert: "intakeInvalid", value: 1, threshold: 1, detail: null }]);
  const status = await posthornCommand(["status", "--database", url()]);
  expect(status.code).toBe(1);
  expect(status.out).toMatch(new RegExp(`^${name} +intakeInvalid +invalid messages +1 +1 `, "m"));
  const discarded = await posthornCommand([
    "invalid",
    "discard",
    "--intake",
    name,
    "--all",
    "--yes",
    "--reason",
    "test",
    "--database",
    url(),
  ]);
  expect(discarded.code).toBe(0);
  expect(await alerts(name)).toEqual([]);
});

test("an alert about invalid messages comes as late as the intake says", async () => {
  const name = fresh("late");
  const at = await place(name, { alerts: { invalid: 2 } });
  await at.hooks.fetch(posted("l-1", secret, {}));
  expect(await alerts(name)).toEqual([]);
  await at.hooks.fetch(posted("l-2", secret, {}));
  expect(await alerts(name)).toEqual([{ alert: "intakeInvalid", value: 2, threshold: 2, detail: null }]);
});

test("a worker of an older library, which says no bounds and reports no refusals, declares and holds an intake as before, and leaves the bounds of a newer one", async () => {
  const names = async (name: string) =>
    (await rows<{ name: string }>("select name from posthorn.intake_rules() where intake_name = $1", [name])).map(
      (rule) => rule.name,
    );
  const declare = async (name: string, service: string) =>
    (
      await rows<{ id: number }>("select posthorn.declare_intake($1, $2, 'webhooks', 'x', 60000, 60000, '[]') as id", [
        name,
        service,
      ])
    )[0]?.id;
  const name = fresh("older");
  const id = await declare(name, "older");
  const [worker] = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('older', 'x', 1, 600000, 0) returning id::text",
  );
  const report = JSON.stringify([{ id, wants: true, connected: true, trouble: null, pushed: true }]);
  expect(await rows("select posthorn.hold_intakes($1, $2) -> 0 ->> 'held' as held", [worker?.id, report])).toEqual([
    { held: "true" },
  ]);
  expect(await names(name)).toEqual(["intakeAwayMs"]);
  const newer = fresh("newer");
  await (await place(newer)).post.stop();
  await declare(newer, "shipping");
  expect(await names(newer)).toEqual(["intakeAwayMs", "intakeRefused", "intakeInvalid"]);
});
