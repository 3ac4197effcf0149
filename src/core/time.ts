/** Durations, spelled out: `seconds(30)` is 30 000 ms. They only multiply; the options that take them check the range. */
export const seconds = (count: number): number => count * 1_000;
export const minutes = (count: number): number => count * 60_000;
export const hours = (count: number): number => count * 3_600_000;
export const days = (count: number): number => count * 86_400_000;
