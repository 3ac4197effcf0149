import { PosthornError } from "../../src/core/errors.js";

/** Runs `work` and returns the error of ours that it throws; anything else fails the test. */
export function thrown(work: () => unknown): PosthornError {
  try {
    work();
  } catch (error) {
    if (error instanceof PosthornError) return error;
    throw error;
  }
  throw new Error("Nothing was thrown.");
}

/** The same for a promise. */
export async function rejected(work: unknown): Promise<PosthornError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof PosthornError) return error;
    throw error;
  }
  throw new Error("Nothing was rejected.");
}
