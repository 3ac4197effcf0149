/** For the command line: `npx posthorn status` in this folder, also beside the running shop. */
export { post } from "./post.js";
