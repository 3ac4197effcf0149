/** `node scripts/check-release.mjs v1.2.3`: whether the tag, the package and the changelog speak of the same version. Prints what is wrong. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** What keeps a tag from being released; empty when nothing does. */
export function problems(tag, { version, repository }, changelog) {
  const found = [];
  // npm compares it with where the workflow ran.
  if (repository === undefined) found.push("package.json names no repository, without which npm takes no provenance.");
  if (!/^v\d+\.\d+\.\d+(-[0-9a-z.-]+)?$/.test(tag)) found.push(`The tag ${tag} is no version: v1.2.3, or v1.2.3-rc.1.`);
  if (tag !== `v${version}`) found.push(`The tag is ${tag}, and package.json says ${version}.`);
  const section = changelog
    .split(/^## /m)
    .find((part) => part.startsWith(`${version} `) || part.startsWith(`${version}\n`));
  if (section === undefined) found.push(`CHANGELOG.md has no section "## ${version} - YYYY-MM-DD".`);
  else if (!/^\S+ - \d{4}-\d{2}-\d{2}\n/.test(section))
    found.push(`The section of ${version} in CHANGELOG.md has no date.`);
  else if (!/^- /m.test(section)) found.push(`The section of ${version} in CHANGELOG.md lists nothing.`);
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const read = (name) => readFileSync(fileURLToPath(new URL(`../${name}`, import.meta.url)), "utf8");
  const found = problems(process.argv[2] ?? "", JSON.parse(read("package.json")), read("CHANGELOG.md"));
  for (const one of found) process.stderr.write(`${one}\n`);
  process.exitCode = found.length > 0 ? 1 : 0;
}
