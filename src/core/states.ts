/** The states of a message for one receiver: a closed list, the same in SQL, TypeScript, CLI and docs. */
export const states = {
  queued: { ended: false, meaning: "stored in the log, waits for a claim" },
  scheduled: { ended: false, meaning: "waits for its time" },
  retrying: {
    ended: false,
    meaning: "waits for its next run after a failure or a crash, or because its handler put it off",
  },
  parked: { ended: false, meaning: "waits behind another message of its key" },
  running: { ended: false, meaning: "held by a worker" },
  succeeded: { ended: true, meaning: "handled" },
  dead: { ended: true, meaning: "attempts spent, rejected, or outcome unknown: in the dead letters" },
  invalid: { ended: true, meaning: "did not fit its schema on arrival: in the invalid list" },
  cancelled: { ended: true, meaning: "cancelled before it ended" },
  expired: { ended: true, meaning: "not begun before its expiry" },
  discarded: { ended: true, meaning: "removed by an operator" },
} as const satisfies Record<string, { ended: boolean; meaning: string }>;

export type State = keyof typeof states;
