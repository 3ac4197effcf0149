import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseSource, root } from "../architecture/sources.js";
import { createDatabase } from "../support/server.js";
import { shared } from "../support/shared.js";
import { createProject, install, type Project } from "./installed.js";

let project: Project;

beforeAll(async () => {
  project = await createProject();
  await install(project, "npm install posthorn");
}, 180_000);
afterAll(() => project.remove());

test("the packed package holds the built code, the SQL, the licence and the README, and nothing else", async () => {
  const { stdout } = await promisify(execFile)("tar", ["-tzf", await shared("tarball")]);
  const files = stdout.trim().split("\n");
  const allowed =
    /^package\/(dist\/.+\.(js|js\.map|d\.ts)|sql\/.+\.sql|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/;
  expect(files.filter((file) => !allowed.test(file))).toEqual([]);
  for (const file of ["dist/index.js", "dist/index.d.ts", "LICENSE", "README.md"])
    expect(files).toContain(`package/${file}`);
});

test("installing posthorn alone brings one other package, which brings none, and it loads with these", async () => {
  const installed = await readdir(join(project.folder, "node_modules"));
  expect(installed.filter((name) => !name.startsWith("."))).toEqual(["croner", "posthorn"]);
  await project.write("load.mjs", `import * as all from "posthorn"; console.log(typeof all.posthorn);`);
  expect((await project.node("load.mjs")).stdout).toBe("function\n");
});

test("the declarations of the package name no other package, so they compile in a project without any", async () => {
  const outside: string[] = [];
  const seen = new Set<string>();
  const visit = async (file: string): Promise<void> => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = await readFile(join(project.folder, "node_modules/posthorn", file), "utf8");
    for (const one of parseSource(file, text).imports) {
      if (one.file === undefined) outside.push(`${file}: ${one.specifier}`);
      else await visit(one.file.replace(/\.ts$/, ".d.ts"));
    }
  };
  await visit("dist/index.d.ts");
  expect(outside).toEqual([]);
  await project.write("types.mts", `import * as all from "posthorn";\nexport const everything = all;\n`);
  expect(await project.compile("--noEmit", "types.mts")).toBe("");
});

test("an application that is bundled into one small file gets errors of the same names and classes from every entry", async () => {
  await project.write(
    "application.mjs",
    `import { ConfigurationError, posthorn } from "posthorn";
     import { nats } from "posthorn/nats";
     import { webhook } from "posthorn/webhooks";
     for (const refused of [() => posthorn({}), () => nats({ url: "x", stream: "X" }), () => webhook({})]) {
       try { refused(); } catch (error) { console.log(error.name, error instanceof ConfigurationError); }
     }`,
  );
  const made = await rolldown({
    input: join(project.folder, "application.mjs"),
    platform: "node",
    // Drivers and clients are not installed here.
    onLog: (level, { code }) => expect([level, code]).toEqual(["warn", "UNRESOLVED_IMPORT"]),
  });
  await made.write({ file: join(project.folder, "bundled.mjs"), minify: true, codeSplitting: false });
  await made.close();
  const { stdout } = await project.node("bundled.mjs");
  expect(stdout.trim().split("\n")).toEqual(Array(3).fill("ConfigurationError true"));
});

test("an application that is bundled into one small file with its driver migrates, sends, handles and stops", async () => {
  const place = await createDatabase();
  await project.write(
    "worker.mjs",
    `import { command, policies, posthorn, type } from "posthorn";
     const Greet = command("Greet", { queue: "greetings", schema: type() });
     const post = posthorn({ service: "hello", database: process.argv[2], migrate: "auto" });
     post.queue("greetings", policies.email).handle(Greet, ({ name }) => console.log("Hello, " + name + "!"));
     await post.start();
     await post.send(Greet, { name: "world" });
     await post.untilIdle();
     await post.stop();`,
  );
  const made = await rolldown({
    input: join(project.folder, "worker.mjs"),
    platform: "node",
    resolve: { alias: { pg: join(root, "node_modules/pg") } },
    onLog: (level, { message }) =>
      expect([level, message]).toEqual(["warn", expect.stringMatching(/pglite|pg-native/)]),
  });
  await made.write({ file: join(project.folder, "one/worker.mjs"), minify: true, codeSplitting: false });
  await made.close();
  expect(await readdir(join(project.folder, "one"))).toEqual(["worker.mjs"]);
  const { stdout } = await project.node("one/worker.mjs", place.url);
  expect(stdout).toBe("Hello, world!\n");
  await place.drop();
});

test("a bundler leaves the import of a driver that is not installed to the run: each is caught, as bundlers ask for", async () => {
  const folder = join(project.folder, "node_modules/posthorn/dist");
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".js"));
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  const imports = texts.flatMap((text) => text.match(/\bimport\("(?:pg|@electric-sql\/pglite)"\)[.\w]*/g) ?? []);
  expect(imports.sort()).toEqual(['import("@electric-sql/pglite").catch', 'import("pg").catch']);
});

test("a driver or a client that is not installed is named with the line that installs it", async () => {
  await project.write(
    "missing.mjs",
    `import { mkdtempSync } from "node:fs";
     import { join } from "node:path";
     import { posthorn } from "posthorn";
     import { kafka } from "posthorn/kafka";
     import { mqtt } from "posthorn/mqtt";
     import { nats } from "posthorn/nats";
     import { rabbitmq } from "posthorn/rabbitmq";
     import { redis } from "posthorn/redis";
     import { sqs } from "posthorn/sqs";
     const folder = mkdtempSync("embedded-");
     const signal = new AbortController().signal;
     const opening = { name: "facts", service: "shop", signal, onTrouble: console.error };
     const ways = [
       () => posthorn({ service: "shop", database: "postgres://127.0.0.1:1/x" }).start(),
       () => posthorn({ service: "shop", database: "embedded:" + join(folder, "db") }).start(),
       ...[
         kafka({ url: "kafka://127.0.0.1:1", topic: "facts" }),
         mqtt({ url: "mqtt://127.0.0.1:1", topic: "facts" }),
         nats({ url: "nats://127.0.0.1:1", stream: "FACTS", subject: "facts" }),
         rabbitmq({ url: "amqp://127.0.0.1:1", exchange: "facts" }),
         redis({ url: "redis://127.0.0.1:1", stream: "facts" }),
         sqs({ queue: "facts", region: "eu-central-1" }),
       ].map((broker) => () => broker.openSender(opening)),
     ];
     for (const way of ways) {
       const error = await way().then(() => new Error("nothing was refused"), (error) => error);
       console.log(error.name, error.code, error.message.slice(error.message.indexOf("Run: ")));
     }`,
  );
  const packages = [
    "pg",
    "@electric-sql/pglite",
    "@platformatic/kafka",
    "mqtt",
    "@nats-io/transport-node @nats-io/jetstream",
    "rabbitmq-client",
    "ioredis",
    "@aws-sdk/client-sqs",
  ];
  const { stdout } = await project.node("missing.mjs");
  expect(stdout.trim().split("\n")).toEqual(
    packages.map((name) => `ConfigurationError PH_PEER_MISSING Run: npm install ${name}`),
  );
});
