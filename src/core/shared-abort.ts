/** A controller whose signal many listen to at once. Node warns of a leak from the eleventh listener on, and here there is none: each removes its own. */
import { setMaxListeners } from "node:events";

export function sharedAbort(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}
