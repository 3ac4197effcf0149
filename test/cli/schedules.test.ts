import { command, type } from "posthorn";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { database, digits, instance, rows } from "./asking.js";
import { posthornCommand } from "./command.js";

const SendDigest = command(`SendDigest${digits()}`, { queue: "digest", schema: type<{ for: string }>() });
const cli = (...args: readonly string[]) => posthornCommand([...args, "--database", database.url]);
const json = async (...args: readonly string[]) => {
  const { code, out } = await cli(...args, "--json");
  return { code, value: JSON.parse(out) };
};

afterEach(() => rows("delete from posthorn.schedule"));

test("schedules are listed with their next time and the message that they sent last, and removed by name", async () => {
  const post = instance();
  await post.migrate();
  expect(await cli("schedules", "list")).toMatchObject({ code: 0, out: "No schedule is declared.\n" });
  const options = { timeZone: "Europe/Berlin", command: SendDigest, missed: "once" } as const;
  post.schedule("yearly-digest", { ...options, cron: "0 3 24 12 *", payload: { for: "year" } });
  post.schedule("leap-digest", { ...options, cron: "0 0 29 2 *", payload: () => ({ for: "leap" }) });
  await post.start();
  await post.stop();
  const before = await cli("schedules", "list");
  expect(before).toMatchObject({ code: 0, err: "" });
  expect(before.out).toMatch(/^Schedule +Cron +Zone +Command +Missed +Next +Last +Last message +By\n/);
  expect(before.out).toMatch(
    /^leap-digest +0 0 29 2 \* +Europe\/Berlin +SendDigest\d+ +once +\d{4}-02-2\d .+ - +- +service-\d+$/m,
  );

  // Somebody sends, and the next time is then due for two minutes.
  await rows(
    "update posthorn.schedule set next_at = now() - interval '1 s', due_at = now() - interval '1 s' where name = 'yearly-digest'",
  );
  const later = instance();
  later.schedule("yearly-digest", { ...options, cron: "0 3 24 12 *", payload: { for: "year" } });
  await later.start();
  const sent = async () =>
    (await rows<{ last_at: Date | null }>("select last_at from posthorn.schedules where name = 'yearly-digest'"))[0];
  await eventually(async () => (await sent())?.last_at !== null);
  await later.stop();
  await rows("update posthorn.schedule set due_at = now() - interval '2 min' where name = 'leap-digest'");
  const after = await json("schedules", "list");
  expect(after.code).toBe(1);
  expect(after.value.schedules).toMatchObject([
    { name: "leap-digest", overdue: true, computed: true, lastAt: null, lastMessage: null },
    {
      name: "yearly-digest",
      overdue: false,
      computed: false,
      missed: "once",
      lastMessage: expect.stringMatching(/^\d+-[0-9a-f]{16}$/),
    },
  ]);
  expect((await cli("why", after.value.schedules[1].lastMessage)).out).toMatch(
    /^no worker has ever worked on 'digest'/,
  );
  expect((await cli("schedules", "list")).out).toMatch(/^leap-digest .+ overdue$/m);
  expect((await cli("status")).out).toMatch(/^yearly-digest +0 3 24 12 \* +Europe\/Berlin/m);
  await rows("update posthorn.schedule set error = 'no figures', failed_at = now() where name = 'leap-digest'");
  expect((await cli("schedules", "list")).out).toMatch(/its command could not be made at .+: no figures$/m);

  expect(await cli("schedules", "remove", "yearly-digest")).toMatchObject({ code: 0, out: "removed: yearly-digest\n" });
  expect(await json("schedules", "remove", "leap-digest")).toEqual({ code: 0, value: { removed: "leap-digest" } });
  expect(await cli("schedules", "list")).toMatchObject({ code: 0, out: "No schedule is declared.\n" });
});

test("a schedule that is unknown is not removed, and the known ones are named", async () => {
  const post = instance();
  const options = { timeZone: "UTC", command: SendDigest, missed: "skip", payload: { for: "x" } } as const;
  post.schedule("monthly-digest", { ...options, cron: "0 0 1 * *" });
  await post.start();
  await post.stop();
  const { code, err } = await cli("schedules", "remove", "montly-digest");
  expect(code).toBe(2);
  expect(err).toContain(
    'No schedule is called "montly-digest". Did you mean "monthly-digest"? Known are: monthly-digest.',
  );
  expect((await cli("schedules", "remove")).err).toContain("needs <schedule>: The name of a schedule.");
  expect((await cli("schedules")).out).toBe((await cli("schedules", "list")).out);
  expect((await cli("schedules", "lst")).err).toContain('needs one of list, remove, got "lst".');
});
