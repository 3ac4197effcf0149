/** The plans that a session really uses, also of the statements inside functions, and the pages that a statement touches. */
import { Client } from "pg";

export interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly "Actual Rows"?: number;
  readonly "Shared Hit Blocks"?: number;
  readonly "Shared Read Blocks"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** A statement that ran, with its nodes in the order of the plan. */
export interface Ran {
  readonly text: string;
  readonly nodes: readonly PlanNode[];
}

export interface WatchedSession {
  rows(text: string, params?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** Runs a statement and returns what ran inside it. */
  watch(text: string, params?: readonly unknown[]): Promise<readonly Ran[]>;
  /** Pages that a statement touches in shared memory or reads, those of the functions inside it included. */
  pages(text: string): Promise<number>;
  close(): Promise<void>;
}

export async function openWatched(url: string): Promise<WatchedSession> {
  const client = new Client({ connectionString: url });
  // Databases are dropped with the sessions that a failed test has left in them.
  client.on("error", () => undefined);
  await client.connect();
  const seen: Ran[] = [];
  client.on("notice", ({ message }) => {
    const start = message?.indexOf("{") ?? -1;
    if (message === undefined || start < 0 || !message.includes('"Query Text"')) return;
    const found = JSON.parse(message.slice(start)) as { "Query Text": string; Plan: PlanNode };
    seen.push({ text: found["Query Text"], nodes: flat(found.Plan) });
  });
  const rows = async (text: string, params: readonly unknown[] = []) => (await client.query(text, [...params])).rows;
  await rows("load 'auto_explain'");
  for (const setting of [
    "log_analyze = on",
    "log_timing = off",
    "log_nested_statements = on",
    "log_format = json",
    "log_level = notice",
  ]) {
    await rows(`set auto_explain.${setting}`);
  }
  return {
    rows,
    watch: async (text, params) => {
      seen.length = 0;
      await rows("set auto_explain.log_min_duration = 0");
      await rows(text, params);
      await rows("set auto_explain.log_min_duration = -1");
      return seen.filter((one) => !one.text.startsWith("set ") && one.text !== text);
    },
    pages: async (text) => {
      const [answer] = await rows(`explain (analyze, buffers, timing off, format json) ${text}`);
      const [explained] = (answer?.["QUERY PLAN"] ?? []) as readonly { readonly Plan: PlanNode }[];
      return (explained?.Plan["Shared Hit Blocks"] ?? 0) + (explained?.Plan["Shared Read Blocks"] ?? 0);
    },
    close: () => client.end(),
  };
}

/** A node and all below it. */
export function flat(node: PlanNode): readonly PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flat)];
}

/** How a statement reads a table: "Index Scan message_1_by_id". */
export function accessOf(ran: Ran): readonly string[] {
  return ran.nodes
    .filter((node) => node["Index Name"] !== undefined || node["Relation Name"] !== undefined)
    .filter((node) => node["Node Type"] !== "ModifyTable")
    .map((node) => `${node["Node Type"]} ${node["Index Name"] ?? node["Relation Name"]}`);
}
