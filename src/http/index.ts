/** The entry `posthorn/http`. */
export { listener } from "./listener.js";
export { type Probed, probes } from "./probes.js";
