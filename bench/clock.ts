/**
 * Milliseconds on one clock for all processes of this machine. `process.hrtime` is CLOCK_MONOTONIC, which counts from the boot and is
 * never set; `performance.timeOrigin` is wall-clock time taken at the start of each process, and differs when the clock was set between.
 */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
