/** N, the receiving half: a callback of LISTEN. */
import pg from "pg";
import { now } from "../clock.js";
import { Latencies, type ReceiverCalls } from "./latencies.js";
import { serve, settings } from "./serve.js";

const { url } = settings<{ readonly url: string }>();
const latencies = new Latencies();
const client = new pg.Client(url);
await client.connect();
await client.query("create table if not exists bench_notified (id bigserial primary key, p json)");
client.on("notification", ({ payload }) => latencies.add(now() - Number(payload)));
await client.query("listen bench_notified");

serve<ReceiverCalls>({ take: (count) => latencies.take(count) });
