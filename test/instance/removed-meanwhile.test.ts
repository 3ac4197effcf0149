import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { event, policies, posthorn, type } from "../../src/index.js";
import { drive } from "../../src/maintenance/operation.js";
import { beginRemove } from "../../src/store/operations.js";
import { openEngine } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";

const Told = event("ThingTold", { topic: "things", schema: type<object>() });

// Before, the start failed with the server's own error about a foreign key.
test("a start between whose two steps the subscription is removed declares it anew, and works on it", async () => {
  const engine = await openEngine();
  const make = () => {
    const post = posthorn({ service: "shop", database: engine.url, migrate: "check", logger: silentLogger });
    let heard = 0;
    post.subscription("reader", { topic: "things", ...policies.notify }).on(Told, () => {
      heard += 1;
    });
    return { post, heard: () => heard };
  };
  const before = make();
  await before.post.start();
  await before.post.stop();
  const was = await engine.admin.value("select id from posthorn.subscription where name = 'reader'");
  // The start stands still between declaring the subscription and registering as its worker.
  const holder = await engine.session();
  await holder.rows("begin");
  await holder.rows("lock table posthorn.contract in access exclusive mode");
  const { post, heard } = make();
  const started = post.start();
  // Copies of one database have their tables under the same numbers.
  const waiting =
    "select from pg_locks l join pg_database d on d.oid = l.database where d.datname = current_database() and not l.granted and l.relation = 'posthorn.contract'::regclass";
  await eventually(async () => (await engine.admin.rows(waiting)).length > 0);
  const removal = await beginRemove(engine.db, "reader", { by: "ann" }, "reader");
  expect(await drive(engine.db, removal)).toMatchObject({ state: "done" });
  await holder.rows("rollback");
  await started;
  expect(await engine.admin.value("select id from posthorn.subscription where name = 'reader'")).not.toBe(was);
  await post.publish(Told, {});
  await eventually(() => heard() === 1);
  await Promise.all([post.stop(), holder.close()]);
  await engine.close();
});
