/** The program of the shipping department. */
import { seconds } from "posthorn";
import { createTables, post } from "./post.js";

await createTables();
await post.start();
process.send?.({ open: true });

let closing = false;
function close(): void {
  if (closing) return;
  closing = true;
  post.stop({ graceMs: seconds(5) }).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
}
for (const ending of ["SIGINT", "SIGTERM", "disconnect"]) process.on(ending, close);
