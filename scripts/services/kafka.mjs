/** Apache Kafka: one node in KRaft mode, from its artifacts in Maven. */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { classPathOf, javaFlags } from "../jars.mjs";
import { accepts, freePort, Program, serviceOf } from "../service.mjs";

export const title = "Kafka";
const version = "4.1.0";
const artifact = `org.apache.kafka:kafka_2.13:${version}`;

export function available() {
  return classPathOf(artifact) === undefined ? undefined : `Kafka ${version}`;
}

/**
 * `settings`: more lines of its configuration, name to value. `behind`: a client of Kafka connects to the address that the broker tells it, so a proxy must
 * be told to the broker: given the port of a second listener, it resolves with the port that stands before it. Then the service has `proxied` beside `url`; `proxiedPort`: the port of that
 * listener.
 *
 * Topics are not made by asking for them. What it has acknowledged is in the memory of the system at least, and outlives SIGKILL.
 */
export async function start({ folder, log, port, settings = {}, behind, proxiedPort }) {
  const classPath = classPathOf(artifact);
  const at = port ?? (await freePort());
  const [controller, inner] = [await freePort(), proxiedPort ?? (await freePort())];
  const outer = behind === undefined ? inner : await behind(inner);
  const host = "127.0.0.1";
  const lines = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@${host}:${controller}`,
    listeners: `PLAINTEXT://${host}:${at},PROXIED://${host}:${inner},CONTROLLER://${host}:${controller}`,
    "advertised.listeners": `PLAINTEXT://${host}:${at},PROXIED://${host}:${outer}`,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": join(folder, "data"),
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    // A broker that was killed is not let in again before its old session has ended.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    ...settings,
  };
  const file = join(folder, "server.properties");
  const text = Object.entries(lines).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(file, text.join(""));
  const java = [...javaFlags, "-cp", classPath];
  const format = ["kafka.tools.StorageTool", "format", "-t", "cG9zdGhvcm4tdGVzdHMtMQ", "-c", file];
  const { status, stdout, stderr } = spawnSync("java", [...java, ...format], { encoding: "utf8" });
  if (status !== 0) throw new Error(`the folder of Kafka could not be prepared:\n${stdout}${stderr}`);
  const kafka = new Program({
    command: "java",
    args: [...java, "kafka.Kafka", file],
    cwd: folder,
    log,
    ready: () => accepts(at),
  });
  await kafka.start();
  const url = (its) => `kafka://${host}:${its}`;
  return serviceOf(kafka, { url: url(at), port: at, keeps: "kill", proxied: url(outer) });
}
