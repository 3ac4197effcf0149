/** N, the sending half: insert and pg_notify, in one statement and so in one round trip and commit, from a pool like the product's. */
import pg from "pg";
import { now } from "../clock.js";
import { json } from "../payload.js";
import { type SenderCalls, sendAtRate } from "./arrivals.js";
import { serve, settings } from "./serve.js";

const { url } = settings<{ readonly url: string }>();
const pool = new pg.Pool({ connectionString: url, max: 10 });

const statement = "with stored as (insert into bench_notified (p) values ($1)) select pg_notify('bench_notified', $2)";

serve<SenderCalls>({
  send: (traffic) => sendAtRate(traffic, () => pool.query(statement, [json, String(now())])),
});
