/** Times and counts of a reader. */

/** How long a settlement waits for company while others run. */
export const settleWithinMs = 20;
/** And when nothing runs: where messages come one by one, the next claim carries it. */
export const settleAloneMs = 10;
/** The longest rest of the loop; it is woken for everything that matters. */
export const restMs = 60_000;
/** How long a few free slots wait for company. */
export const lingerMs = 3;
/** Where several messages came at once the next are on their way: a look after so long costs less than being told of each, and is sooner. */
export const followMs = 1;
/** The longest that a message waits here for a slot; then whoever has one may take it. */
export const patienceMs = 500;
/** With fewer slots than this, the time of a claim is mostly its round trip, and taking as many as possible pays. */
export const manySlots = 100;
/** When to look again at what is due and held, by a producer for instance; the pause doubles. What else comes due meanwhile is late by it. */
export const heldMs = { first: 10, longest: 80 } as const;
