/** A process whose relay takes the commands of `message-sender` to a broker, and looks at the clock when the broker has acknowledged one. */
import { posthorn } from "posthorn";
import { brokers, watched } from "../brokers.js";
import { now } from "../clock.js";
import { relayPolicy } from "../relayed.js";
import { Latencies, type ReceiverCalls } from "./latencies.js";
import { serve, settings } from "./serve.js";

const {
  url,
  broker: name,
  brokerUrl,
} = settings<{ readonly url: string; readonly broker: string; readonly brokerUrl: string }>();
const row = brokers.find((one) => one.name === name);
if (row === undefined) throw new Error(`no broker ${name}`);

const latencies = new Latencies();
const to = watched(await row.make(brokerUrl, "latency"), {
  calls: [],
  acknowledged: 0,
  onAcknowledged: (messages) => {
    const at = now();
    for (const { event } of messages) latencies.add(at - Number(JSON.parse(event.data).cents));
  },
});
const post = posthorn({ service: "bench", database: url, migrate: "auto" });
// Its commands have no keys.
post.relay("work", { ...relayPolicy, ordering: "none", from: { queue: "work" }, to });
await post.start();

serve<ReceiverCalls>({ take: (count) => latencies.take(count) });
