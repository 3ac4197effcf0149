/**
 * `npm run test:browser`: the pages in a real browser, Chromium as Debian packages it. With `-- --screenshots` it renews the pictures
 * in docs/images instead.
 */
import { spawnSync } from "node:child_process";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

const gates = new Gates();
const browser = process.env.POSTHORN_TEST_BROWSER ?? found() ?? installed();
if (browser === undefined) {
  gates.skip(
    "pages in a browser",
    "there is no Chromium, and it could not be installed; POSTHORN_TEST_BROWSER names one",
  );
} else {
  gates.vitest(`pages in ${browser}`, ["--config", "test/browser/vitest.config.ts"], {
    POSTHORN_TEST_BROWSER: browser,
    ...(process.argv.includes("--screenshots") ? { POSTHORN_SCREENSHOTS: "1" } : {}),
  });
}
gates.close();

/** Its path: a name alone is not enough to launch it. */
function found() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    const { status, stdout } = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
    if (status === 0) return stdout.trim();
  }
  return undefined;
}

/** Only on a Debian or Ubuntu where this process may install packages. */
function installed() {
  if (process.getuid?.() !== 0) return undefined;
  // Together well below the time that CI gives this part.
  const apt = (seconds, ...args) =>
    spawnSync("apt-get", ["-qq", ...args], { stdio: ["ignore", 2, 2], timeout: seconds * 1_000 }).status === 0;
  if (!apt(20, "update") || !apt(50, "install", "-y", "--no-install-recommends", "chromium")) return undefined;
  return found();
}
