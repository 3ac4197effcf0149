/**
 * Says again what failed in one part of CI: `node scripts/failures.mjs <title> <status> <log> <failures>`.
 *
 * Each failed test comes with its file, its full name and the beginning of its error, from what failure-reporter.mjs wrote; each other
 * gate that failed with the end of what it printed, and a part that says neither, or has no closing line, with the end of its log.
 */
import { existsSync, readFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";

const linesShown = 25;
/** Of one part in full; of the rest only the names, so that a broken build does not print thousands of errors. */
const inFull = 20;
const inName = 200;

const [title, status, log, failures] = process.argv.slice(2);
const printed = stripVTControlCharacters(readFileSync(log, "utf8")).replaceAll("\r\n", "\n").split("\n");
const marked = [...tests(), ...gates()];
const closed = printed.some((line) => /^\d+ passed, \d+ failed/.test(line));
const blocks = closed && marked.length > 0 ? marked : [...marked, ending()];
process.stdout.write(`\n### Failed in ${title}\n\n${blocks.join("\n")}`);

function tests() {
  const lines = existsSync(failures) ? readFileSync(failures, "utf8").split("\n") : [];
  const failed = lines.flatMap(parsed);
  const rest = failed.slice(inFull);
  const blocks = failed.slice(0, inFull).map((one) => block(head(one), error(one)));
  if (rest.length > 0) blocks.push(block(`and ${rest.length} more:`, rest.slice(0, inName).map(head)));
  return blocks;
}

/** The last line is half a line when the run was killed while it wrote. */
function parsed(line) {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}

function head({ file, name }) {
  return file === "" ? name : `${file} > ${name}`;
}

function error({ errors }) {
  return errors.flatMap(({ text, frames }) => {
    const lines = text.split("\n");
    const room = linesShown - frames.length;
    const shown =
      lines.length > room ? [...lines.slice(0, room - 1), `… ${lines.length - room + 1} more lines`] : lines;
    return [...shown, ...frames];
  });
}

/** What `Gates` marks; a vitest run is marked when it failed outside of its tests. */
function gates() {
  return printed.flatMap((line, index) => {
    if (!line.startsWith("FAILED: ")) return [];
    const start = printed.slice(0, index).findLastIndex((before) => before.startsWith("== "));
    return [block(line, printed.slice(Math.max(start + 1, index - linesShown), index))];
  });
}

function ending() {
  const limit = status === "124" || status === "137" ? ", most likely its time was up" : "";
  const last = printed.filter((line) => line.trim() !== "").slice(-linesShown);
  return block(`${closed ? "It" : "No closing line: it"} ended with status ${status}${limit}. Its last lines:`, last);
}

function block(title, lines) {
  return `${[title, ...lines.map((line) => `    ${line}`.trimEnd())].join("\n")}\n`;
}
