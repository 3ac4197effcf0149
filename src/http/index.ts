/** The entry `posthorn/http`. */
export { type ListenerOptions, listener } from "./listener.js";
export { type Probed, probes } from "./probes.js";
