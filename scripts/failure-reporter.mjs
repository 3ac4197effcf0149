/**
 * A reporter for vitest that appends each failure to the file POSTHORN_FAILURES as soon as it is known, one line of JSON each: what
 * failed before a run was killed, or died, is written too.
 */
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import { stripVTControlCharacters } from "node:util";

const framesShown = 6;

// biome-ignore lint/style/noDefaultExport: vitest reads it.
export default class FailureReporter {
  onTestCaseResult(test) {
    const { state, errors } = test.result();
    if (state === "failed") record(test.module.moduleId, test.fullName, errors ?? []);
  }

  /** Errors of its hooks. */
  onTestSuiteResult(suite) {
    recordAny(suite.module.moduleId, suite.fullName, suite.errors());
  }

  /** The file could not be loaded, or hooks of the whole file failed. */
  onTestModuleEnd(module) {
    recordAny(module.moduleId, "the file as a whole", module.errors());
  }

  onTestRunEnd(_modules, unhandled) {
    recordAny("", "outside of any test", unhandled);
  }
}

function recordAny(path, name, errors) {
  if (errors.length > 0) record(path, name, errors);
}

function record(path, name, errors) {
  const file = path === "" ? "" : relative(process.cwd(), path);
  const line = JSON.stringify({ file, name, errors: errors.map(described) });
  appendFileSync(process.env.POSTHORN_FAILURES, `${line}\n`);
}

/** What it says and where it was thrown, apart: the second must not be lost behind a long first one. */
function described(error) {
  const said = [`${error.name ?? "Error"}: ${error.message}`];
  if (error.diff) said.push(error.diff);
  for (let { cause } = error; cause; cause = cause.cause) said.push(`cause: ${cause.message ?? String(cause)}`);
  const own = (error.stacks ?? []).filter(({ file }) => !file.includes("/node_modules/"));
  const frames = own.slice(0, framesShown).map(({ file, line, method }) => {
    return `at ${method ? `${method} ` : ""}${relative(process.cwd(), file)}:${line}`;
  });
  return { text: stripVTControlCharacters(said.join("\n")), frames };
}
