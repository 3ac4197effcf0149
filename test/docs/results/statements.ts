/** The program of docs/guides/results.md: statements that take a while, asked for over HTTP. */
import { command, DeadlineError, days, NoResultError, policies, posthorn } from "posthorn";
import { z } from "zod";

export const BuildStatement = command("BuildStatement", {
  queue: "statements",
  schema: z.object({ account: z.string(), months: z.int().min(1) }),
  result: z.object({ lines: z.int(), cents: z.int() }),
});

/** What a line of a statement costs to find out; the test makes it slow. */
export type Book = (account: string, month: number, signal: AbortSignal) => Promise<number>;

export function open(database: string, book: Book) {
  const post = posthorn({ service: "bank", database, migrate: "auto" });
  const statements = post.queue("statements", { ...policies.notify, results: { keepMs: days(7) } });

  statements.handle(BuildStatement, async ({ account, months }, { signal, progress }) => {
    let cents = 0;
    for (let month = 0; month < months; month += 1) {
      signal.throwIfAborted();
      progress(month / months);
      cents += await book(account, month, signal);
    }
    return { lines: months, cents };
  });

  /** POST /statements: with the answer where it is there soon, else with an id to ask for. */
  async function create(account: string, months: number) {
    const receipt = await post.send(BuildStatement, { account, months });
    try {
      return { status: 200, body: await receipt.result({ withinMs: 2_000 }) };
    } catch (error) {
      if (error instanceof DeadlineError) return { status: 202, body: { id: receipt.id } };
      throw error;
    }
  }

  /** GET /statements/:id, in any process. */
  async function look(id: string) {
    const { state, progress, result } = await post.receipt(BuildStatement, id).status();
    return { status: 200, body: { state, progress, result } };
  }

  /** DELETE /statements/:id */
  async function takeBack(id: string) {
    return { status: 200, body: await post.receipt(BuildStatement, id).cancel() };
  }

  /** Why there is no statement. */
  async function explain(id: string) {
    try {
      return await post.receipt(BuildStatement, id).result({ withinMs: 0 });
    } catch (error) {
      if (error instanceof NoResultError)
        return { code: error.code, state: error.facts.state, reason: error.facts.reason };
      throw error;
    }
  }

  return { post, create, look, takeBack, explain };
}
