/** The rules of the layers as data, and the functions that find what breaks them. */
import { computed, type Import, type Source } from "./sources.js";

/** What a folder of src may import; "(types)" allows type-only imports. A folder that is not here may not exist. */
export const layers: Readonly<Record<string, readonly string[]>> = {
  core: [],
  contracts: ["core"],
  policies: ["core"],
  databases: ["core"],
  // What is outside: one file or folder for each, and how a message looks there.
  brokers: ["core"],
  store: ["core"],
  producer: ["core", "contracts", "policies", "store", "databases (types)"],
  worker: ["core", "contracts", "policies", "store", "producer", "maintenance"],
  relays: ["core", "contracts", "brokers", "policies", "producer", "worker"],
  maintenance: ["core", "store"],
  schedules: ["core", "contracts", "store", "producer"],
  intakes: ["core", "contracts", "policies", "store", "producer", "brokers"],
  http: ["core", "instance"],
  instance: [
    "core",
    "contracts",
    "policies",
    "brokers",
    "databases",
    "store",
    "producer",
    "worker",
    "relays",
    "maintenance",
    "schedules",
    "intakes",
  ],
  cli: [
    "core",
    "contracts",
    "policies",
    "databases",
    "store",
    "producer",
    "worker",
    "maintenance",
    "schedules",
    "intakes",
    "brokers",
    "instance",
    "http",
  ],
  "index.ts": [
    "core",
    "contracts",
    "policies",
    "brokers",
    "databases",
    "store",
    "producer",
    "worker",
    "relays",
    "maintenance",
    "schedules",
    "intakes",
    "brokers",
    "instance",
  ],
};

/** Packages that a folder may import, and how. Everything else is Node's own. */
export const packages: Readonly<Record<string, Readonly<Record<string, readonly Import["kind"][]>>>> = {
  databases: { pg: ["type", "dynamic"], "@electric-sql/pglite": ["type", "dynamic"] },
  brokers: {
    mqtt: ["type", "dynamic"],
    "rabbitmq-client": ["type", "dynamic"],
    "@nats-io/transport-node": ["type", "dynamic"],
    "@nats-io/jetstream": ["type", "dynamic"],
    "@platformatic/kafka": ["type", "dynamic"],
    ioredis: ["type", "dynamic"],
    "@aws-sdk/client-sqs": ["type", "dynamic"],
  },
  // Cron lines and time zones. The one package that comes with this one; see docs/internals/schedules.md.
  schedules: { croner: ["static"] },
  cli: {
    // The user's configuration file.
    jiti: ["dynamic"],
    [computed]: ["dynamic"],
    // The mail catcher of `dev`.
    "smtp-server": ["dynamic"],
    "postal-mime": ["dynamic"],
  },
};

/** What each entry of `exports` may reach: at once when it is loaded, and later through `import()`. */
export const entries: Readonly<
  Record<string, { readonly atOnce: readonly string[]; readonly later: readonly string[] }>
> = {
  ".": { atOnce: ["croner"], later: ["pg", "@electric-sql/pglite"] },
  "./http": { atOnce: [], later: [] },
  "./mqtt": { atOnce: [], later: ["mqtt"] },
  "./webhooks": { atOnce: [], later: [] },
  "./rabbitmq": { atOnce: [], later: ["rabbitmq-client"] },
  "./nats": { atOnce: [], later: ["@nats-io/jetstream", "@nats-io/transport-node"] },
  "./kafka": { atOnce: [], later: ["@platformatic/kafka"] },
  "./redis": { atOnce: [], later: ["ioredis"] },
  "./sqs": { atOnce: [], later: ["@aws-sdk/client-sqs"] },
};

/** "src/core/errors.ts" lies in "core"; "src/index.ts" in "index.ts". */
export function layerOf(file: string): string {
  return file.split("/")[1] ?? file;
}

/** "@scope/name/path" belongs to "@scope/name". */
export function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

export function wrongEdges(sources: readonly Source[]): readonly string[] {
  return sources.flatMap(({ file, imports }) =>
    imports.flatMap((one) => {
      const reason = one.file === undefined ? wrongPackage(file, one) : wrongLayer(file, one.file, one.kind);
      return reason === undefined ? [] : [`${file}:${one.line} imports ${one.specifier}: ${reason}`];
    }),
  );
}

function wrongLayer(from: string, to: string, kind: Import["kind"]): string | undefined {
  const [own, other] = [layerOf(from), layerOf(to)];
  if (!to.startsWith("src/")) return "it lies outside of src";
  const allowed = layers[own];
  if (allowed === undefined) return `the folder ${own} is not in the table of layers`;
  if (own === other && own !== "index.ts") return undefined;
  if (allowed.includes(other) || (kind === "type" && allowed.includes(`${other} (types)`))) return undefined;
  return `${own} may import ${allowed.length > 0 ? allowed.join(", ") : "nothing"}`;
}

function wrongPackage(from: string, { specifier, kind }: Import): string | undefined {
  if (specifier.startsWith("node:")) return undefined;
  const kinds = packages[layerOf(from)]?.[packageOf(specifier)];
  if (kinds === undefined) return `no package is allowed here`;
  return kinds.includes(kind) ? undefined : `only as ${kinds.join(" or ")} import`;
}

/** Every ring of files that import each other, type-only imports included, each found once. */
export function cycles(sources: readonly Source[]): readonly string[] {
  const edges = new Map(sources.map(({ file, imports }) => [file, imports.flatMap((one) => one.file ?? [])]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      found.push([...path.slice(at), file].join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const { file } of sources) visit(file, []);
  return found;
}

export interface Reach {
  readonly atOnce: readonly string[];
  readonly later: readonly string[];
}

/** The packages that the code of an entry can load; type imports vanish from the code and do not count. */
export function reachOf(entry: string, sources: readonly Source[]): Reach {
  const byFile = new Map(sources.map((source) => [source.file, source]));
  const atOnce = new Set<string>();
  const later = new Set<string>();
  const seen = new Map<string, boolean>();
  const visit = (file: string, deferred: boolean): void => {
    const known = seen.get(file);
    if (known === false || known === deferred) return;
    seen.set(file, deferred);
    for (const one of byFile.get(file)?.imports ?? []) {
      if (one.kind === "type" || one.specifier.startsWith("node:")) continue;
      const isLater = deferred || one.kind === "dynamic";
      if (one.file !== undefined) visit(one.file, isLater);
      else (isLater ? later : atOnce).add(packageOf(one.specifier));
    }
  };
  visit(entry, false);
  return { atOnce: [...atOnce].sort(), later: [...later].sort() };
}
