/** The other side of program.ts: answers calls, and ends with the process that started it. */

/** Functions of one argument each; their results are answers once they settle. */
export type Calls<C> = { readonly [N in keyof C]: (input: never) => unknown };

export interface Question {
  readonly id: number;
  readonly name: string;
  readonly input: unknown;
}

export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** The settings that the program was started with. */
export function settings<S>(): S {
  return JSON.parse(process.argv[2] ?? "{}");
}

/** Call it when everything else is ready. */
export function serve<C extends Calls<C>>(calls: C): void {
  const known = new Map<string, unknown>(Object.entries({ ready: () => undefined, ...calls }));
  process.on("disconnect", () => process.exit(0));
  process.on("message", async ({ id, name, input }: Question) => {
    process.send?.(await answer(known.get(name), id, input));
  });
}

async function answer(call: unknown, id: number, input: unknown): Promise<Answer> {
  try {
    if (typeof call !== "function") throw new Error("it has no such call");
    return { id, value: await call(input) };
  } catch (error) {
    return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
