/** ElasticMQ, which speaks the protocol of SQS, from its artifacts in Maven. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { classPathOf, javaFlags } from "../jars.mjs";
import { accepts, freePort, Program, serviceOf } from "../service.mjs";

export const title = "ElasticMQ";
const version = "1.6.12";
const artifact = `org.elasticmq:elasticmq-server_2.13:${version}`;

export function available() {
  return classPathOf(artifact) === undefined ? undefined : `ElasticMQ ${version}`;
}

/** Takes any key, so the one in its address is made up. It keeps its queues through any end, and messages through none. */
export async function start({ folder, log, port }) {
  const at = port ?? (await freePort());
  const file = join(folder, "elasticmq.conf");
  const quoted = (path) => JSON.stringify(path);
  const text = `include classpath("application.conf")
node-address { protocol = http, host = "127.0.0.1", port = ${at}, context-path = "" }
rest-sqs { enabled = true, bind-port = ${at}, bind-hostname = "127.0.0.1", sqs-limits = strict }
rest-stats { enabled = false }
queues-storage { enabled = true, path = ${quoted(join(folder, "queues.conf"))} }
`;
  await writeFile(file, text);
  const elasticmq = new Program({
    command: "java",
    args: [...javaFlags, `-Dconfig.file=${file}`, "-cp", classPathOf(artifact), "org.elasticmq.server.Main"],
    cwd: folder,
    log,
    ready: () => accepts(at),
  });
  await elasticmq.start();
  return serviceOf(elasticmq, { url: `http://key:its-secret@127.0.0.1:${at}`, port: at, keeps: "nothing" });
}
