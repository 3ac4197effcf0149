/** bulk-publish: 1,000 messages per call. publish-in-transaction: a business row and a message in one commit, 8 producers. */
import pg from "pg";
import { posthorn } from "posthorn";
import type { Row } from "../bench.js";
import { insertLimit, transactionLimit } from "../limits.js";
import { alternate, figure, type Probe, rate } from "../measure.js";
import { payload, payloads, Work } from "../payload.js";

export const bulkPublish: Row = {
  names: ["bulk-publish"],
  run: async ({ database, rounds, roundMs }) => {
    const url = await database();
    const post = posthorn({ service: "bench", database: url, migrate: "auto" });
    const product: Probe = {
      round: () =>
        rate(roundMs, async () => {
          await post.sendMany(Work, payloads);
          return payloads.length;
        }),
      close: () => post.stop(),
    };
    const [limits, values] = await alternate(await insertLimit(url, roundMs), product, rounds);
    return [figure("bulk-publish", "messages/s", values, limits, { least: 0.6 }, roundMs / 1_000)];
  },
};

export const publishInTransaction: Row = {
  names: ["publish-in-transaction"],
  run: async ({ database, rounds, roundMs }) => {
    const url = await database();
    const pool = new pg.Pool({ connectionString: url, max: 8 });
    const post = posthorn({ service: "bench", database: pool, migrate: "auto" });
    const limit = await transactionLimit(url, roundMs);
    const one = async () => {
      await post.transaction(async ({ tx, send }) => {
        await tx.query("insert into bench_business (v) values ($1)", ["x"]);
        send(Work, payload(1));
      });
      return 1;
    };
    const product: Probe = {
      round: async () => {
        const rates = await Promise.all(Array.from({ length: 8 }, () => rate(roundMs, one)));
        return rates.reduce((sum, value) => sum + value, 0);
      },
      close: async () => {
        await post.stop();
        await pool.end();
      },
    };
    const [limits, values] = await alternate(limit, product, rounds);
    return [figure("publish-in-transaction", "tx/s", values, limits, { least: 0.8 }, roundMs / 1_000)];
  },
};
