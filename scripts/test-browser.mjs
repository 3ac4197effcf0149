/** `npm run test:browser`: the pages in a real browser. Nothing to run yet; it is here so that the parts are complete. */
import { Gates } from "./gates.mjs";

const gates = new Gates();
gates.skip("pages in a browser", "no page is tested in a browser yet");
gates.close();
