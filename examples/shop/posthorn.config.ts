/**
 * For the command line: `npx posthorn status` in this folder, also beside the running shop.
 *
 * Without the handlers, so it looks and does not work: they belong to the mail server and the services that the shop starts.
 */
export { post } from "./post.js";
