/** A queue with messages in any database, by the statements of the store. */
import type { Database } from "../../src/core/database.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { writeMessages } from "../../src/store/publish.js";
import { registerContract } from "../../src/store/registry.js";

export async function sendNow(database: Database, count: number): Promise<void> {
  await ensureSchema(database, "auto");
  const entry = { kind: "command", name: "DoMail", version: 1, channel: "mail", keyed: false, owner: null } as const;
  const { contract, channel } = await registerContract(database, entry, "test", false);
  const message = { contract, channel, key: null, json: '{"m":1}', headers: null };
  await writeMessages(database, Array(count).fill(message));
}
