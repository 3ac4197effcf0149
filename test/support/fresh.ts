/**
 * Test files share a process one after the other, and the sources that it has loaded: a process for each would load them anew, which takes
 * longer than many a file runs. What belongs to tests is loaded anew for each file, with the hooks that its modules register.
 */
import { fileURLToPath } from "node:url";

interface LoadedModule {
  promise: unknown;
  exports: unknown;
  evaluated: boolean;
  readonly importers: Set<string>;
}

declare global {
  var __vitest_worker__: { readonly evaluatedModules: { readonly idToModuleMap: Map<string, LoadedModule> } };
}

const tests = fileURLToPath(new URL("..", import.meta.url));
const own = fileURLToPath(import.meta.url);

// As `vi.resetModules` does it with all.
for (const [path, loaded] of globalThis.__vitest_worker__.evaluatedModules.idToModuleMap) {
  if (!path.startsWith(tests) || path === own) continue;
  loaded.promise = undefined;
  loaded.exports = undefined;
  loaded.evaluated = false;
  loaded.importers.clear();
}
