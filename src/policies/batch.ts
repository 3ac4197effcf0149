/** How messages are gathered for a handler that takes many at once. Beside the policy, because it belongs to what the handler can do. */
import { limits } from "../core/limits.js";
import type { Fields, OptionsOf } from "../core/options.js";

export const batchFields = {
  size: {
    type: "integer",
    doc: "Messages in one batch at most; too small and the handler is called often, too large and one bad message troubles many",
    min: 2,
    max: limits.batchSize,
    required: true,
  },
  maxWaitMs: {
    type: "duration",
    doc: "The longest time that a message waits in this process for others, counted from its arrival; 0 takes what is there",
    min: 0,
    max: limits.batchWaitMs,
    required: true,
  },
} as const satisfies Fields;

/** `size` and `maxWaitMs`. */
export type BatchOptions = OptionsOf<typeof batchFields>;
