import { nats, natsFeatures } from "../../src/brokers/nats/index.js";
import { startService } from "../support/services.js";
import { brokerConformance, type Place } from "./conformance.js";
import { unreadable } from "./unreadable.js";

brokerConformance({
  name: "NATS JetStream",
  features: natsFeatures,
  service: () => startService("nats", { settings: { max_payload: "400KB" } }),
  make: ({ url, destination, timeoutMs }) =>
    nats({ url, stream: destination, subject: `${destination}.placed`, timeoutMs }),
  prepare: makeStream,
  unreadable: unreadable("nats"),
  headers: "one line",
  tooLargeBytes: 500_000,
});

async function makeStream({ url, destination }: Place): Promise<void> {
  const { connect } = await import("@nats-io/transport-node");
  const { jetstreamManager } = await import("@nats-io/jetstream");
  const { hostname, port, username, password } = new URL(url);
  const connection = await connect({
    servers: `${hostname}:${port}`,
    user: username,
    pass: decodeURIComponent(password),
  });
  await (await jetstreamManager(connection)).streams.add({ name: destination, subjects: [`${destination}.*`] });
  await connection.close();
}
