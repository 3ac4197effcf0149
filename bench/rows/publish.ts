/** bulk-publish: 1,000 messages per call. publish-in-transaction: a business row and a message in one commit, 8 producers. */
import pg from "pg";
import { posthorn } from "posthorn";
import type { Row } from "../bench.js";
import { businessRow, connections, insertLimit, transactionLimit } from "../limits.js";
import { alternate, figure, type Probe, rate, rateOfMany } from "../measure.js";
import { payload, payloads, Work } from "../payload.js";

export const bulkPublish: Row = {
  names: ["bulk-publish"],
  run: async (bench) => {
    const { url } = await bench.database();
    const post = posthorn({ service: "bench", database: url, migrate: "auto" });
    const product: Probe = {
      round: (ms) =>
        rate(ms, async () => {
          await post.sendMany(Work, payloads);
          return payloads.length;
        }),
      close: () => post.stop(),
    };
    const measured = await alternate(bench, await insertLimit(url), product);
    return [figure({ name: "bulk-publish", unit: "messages/s", ...measured, bar: { least: 0.6 } })];
  },
};

export const publishInTransaction: Row = {
  names: ["publish-in-transaction"],
  run: async (bench) => {
    const { url } = await bench.database();
    const pool = new pg.Pool({ connectionString: url, max: connections });
    const post = posthorn({ service: "bench", database: pool, migrate: "auto" });
    const limit = await transactionLimit(url);
    const one = async () => {
      await post.transaction(async ({ tx, send }) => {
        await tx.query(businessRow[0], [...businessRow[1]]);
        send(Work, payload(1));
      });
      return 1;
    };
    const producers = Array.from({ length: connections }, () => one);
    const product: Probe = {
      round: (ms) => rateOfMany(ms, producers),
      close: async () => {
        await post.stop();
        await pool.end();
      },
    };
    const measured = await alternate(bench, limit, product);
    return [figure({ name: "publish-in-transaction", unit: "tx/s", ...measured, bar: { least: 0.8 } })];
  },
};
