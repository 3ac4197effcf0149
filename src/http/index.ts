/** The entry `posthorn/http`. */
export { type Probed, probes } from "./probes.js";
