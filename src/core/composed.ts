/**
 * An error that is made of what was told, where nobody's code is on the stack: it would show the library's own lines to whoever looks for his mistake, and
 * would part into groups what went wrong in the same way. Whoever wants to know where it comes from has its code and its words.
 */
export function composed<E extends Error>(error: E): E {
  delete error.stack;
  return error;
}
