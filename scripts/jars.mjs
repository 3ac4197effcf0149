/** Programs in Java for scripts/services: Maven fetches their jars once, into the user's cache folder. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { found, installed } from "./service.mjs";

/** Short to start, and small. */
export const javaFlags = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/** The class path of an artifact, "group:name:version", with all that it needs; undefined where Java or Maven cannot be had. */
export function classPathOf(artifact) {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "posthorn");
  const folder = join(cache, artifact.replaceAll(":", "-"));
  if (!foundOrInstalledJava()) return undefined;
  if (!existsSync(folder) && !fetched(artifact, cache, folder)) return undefined;
  return join(folder, "*");
}

function foundOrInstalledJava() {
  return hasJava() || (installed("openjdk-17-jre-headless") && hasJava());
}

function hasJava() {
  const { status, stderr } = spawnSync("java", ["-version"], { encoding: "utf8" });
  return status === 0 && Number(/version "(\d+)/.exec(stderr)?.[1]) >= 17;
}

/** Into a folder of its own first: what was cut off in the middle is not taken for the whole. */
function fetched(artifact, cache, folder) {
  if (found("mvn") === undefined && !(installed("maven") && found("mvn") !== undefined)) return false;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "fetch-"));
  try {
    const [group, name, version] = artifact.split(":");
    const dependency = `<groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version>`;
    const project = "<groupId>posthorn</groupId><artifactId>service</artifactId><version>1</version>";
    const model = `<modelVersion>4.0.0</modelVersion>${project}<dependencies><dependency>${dependency}</dependency></dependencies>`;
    writeFileSync(join(work, "pom.xml"), `<project xmlns="http://maven.apache.org/POM/4.0.0">${model}</project>`);
    const args = ["-q", "-B", "-Dmaven.artifact.threads=16", "dependency:copy-dependencies"];
    const { status } = spawnSync("mvn", [...args, "-DincludeScope=runtime", "-DoutputDirectory=jars"], {
      cwd: work,
      stdio: ["ignore", 2, 2],
      timeout: 240_000,
    });
    if (status !== 0) return false;
    // Another process may have been faster: its jars are the same.
    if (!existsSync(folder)) renameSync(join(work, "jars"), folder);
    return true;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
