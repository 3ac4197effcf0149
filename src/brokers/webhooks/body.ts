/** Reads the body of a request up to a limit of bytes and of time. */

export type Body =
  | { readonly kind: "whole"; readonly bytes: Uint8Array }
  | { readonly kind: "large" | "slow" | "broken" };

/** What all bodies that are being read have in memory: bounded, since nobody has verified them yet. */
export class BodyBudget {
  readonly #most: number;
  #bytes = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get full(): boolean {
    return this.#bytes >= this.#most;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
  }
}

export interface BodyLimits {
  readonly maxBytes: number;
  readonly bodyTimeoutMs: number;
  readonly budget: BodyBudget;
}

/**
 * Never throws. A body that is not read to its end is let go, not cancelled: to cancel it would close the connection before there is an answer.
 */
export async function readBody(request: Request, { maxBytes, bodyTimeoutMs, budget }: BodyLimits): Promise<Body> {
  if (request.body === null) return { kind: "whole", bytes: new Uint8Array() };
  const reader: ReadableStreamDefaultReader<Uint8Array> = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  let slow = false;
  const timer = setTimeout(() => {
    slow = true;
    // The read that is waited for ends with an error.
    reader.releaseLock();
  }, bodyTimeoutMs);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { kind: "whole", bytes: Buffer.concat(chunks) };
      length += value.length;
      budget.add(value.length);
      chunks.push(value);
      if (length > maxBytes) return { kind: "large" };
    }
  } catch {
    return { kind: slow ? "slow" : "broken" };
  } finally {
    clearTimeout(timer);
    budget.add(-length);
    reader.releaseLock();
  }
}
