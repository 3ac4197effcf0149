/**
 * Runs the gates of a test command one after the other and adds them up.
 *
 * A gate is a program that passes or fails, or a vitest run whose tests are counted. All run, also after one has failed; the last
 * line printed is the sum.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

export class Gates {
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  /** A program in node_modules or scripts; counts as one. */
  program(name, script, args = [], env = {}) {
    this.check(name, () => run([join(root, script), ...args], env).status === 0);
  }

  check(name, act) {
    process.stdout.write(`\n== ${name}\n`);
    const ok = act();
    process.stdout.write(`${ok ? "passed" : "FAILED"}: ${name}\n`);
    if (ok) this.#passed += 1;
    else this.#failed += 1;
  }

  /** Named, so that a reader of the output sees what was not tested and why. */
  skip(name, reason) {
    process.stdout.write(`\nskipped: ${name}: ${reason}\n`);
    this.#skipped += 1;
  }

  /** Each test counts. A run that fails outside of its tests (an unhandled error, no result at all) counts as one failure. */
  vitest(name, args = [], env = {}) {
    process.stdout.write(`\n== ${name}\n`);
    const folder = mkdtempSync(join(tmpdir(), "posthorn-result-"));
    try {
      const file = join(folder, "result.json");
      const options = ["run", "--update=none", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
      // CI says at its end what failed.
      if (process.env.POSTHORN_FAILURES) options.push(`--reporter=${join(root, "scripts/failure-reporter.mjs")}`);
      const { status } = run([join(root, "node_modules/vitest/vitest.mjs"), ...options, ...args], env);
      const { passed, failed, skipped } = counts(file);
      this.#passed += passed;
      this.#failed += failed;
      this.#skipped += skipped;
      if (status !== 0 && failed === 0) {
        process.stdout.write(`FAILED: ${name} ended with status ${status}\n`);
        this.#failed += 1;
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Prints the closing line and sets the exit code. */
  close() {
    const skipped = this.#skipped > 0 ? `, ${this.#skipped} skipped` : "";
    process.exitCode = this.#failed > 0 ? 1 : 0;
    process.stdout.write(`\n${this.#passed} passed, ${this.#failed} failed${skipped}\n`);
  }
}

function run(args, env) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
}

/** A file that cannot be loaded or prepared fails without a failed test: vitest then counts its tests as skipped, or none. */
function counts(file) {
  try {
    const result = JSON.parse(readFileSync(file, "utf8"));
    const broken = result.testResults.filter(
      ({ status, assertionResults }) => status === "failed" && !assertionResults.some((one) => one.status === "failed"),
    );
    return {
      passed: result.numPassedTests,
      failed: result.numFailedTests + broken.length,
      skipped: result.numPendingTests + result.numTodoTests,
    };
  } catch {
    return { passed: 0, failed: 0, skipped: 0 };
  }
}
